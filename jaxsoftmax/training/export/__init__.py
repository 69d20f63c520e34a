"""A model in other formats: with its preprocessing inside, as far as the format can.

| format | inside | not inside |
|---|---|---|
| onnx | everything | |
| sklearn | everything | text that means "missing" beyond what the reader of the table knows |
| stablehlo | numbers, vectors, one-hot | text: a category comes as its number |
| safetensors | mean and scale of each feature, names | columns: features must be numbers |
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Literal, NamedTuple

from jaxsoftmax.training.files import write_file
from jaxsoftmax.training.model import load

Format = Literal["stablehlo", "onnx", "sklearn", "safetensors"]
FORMATS: dict[Format, tuple[str, str]] = {  # the module, and how its files are called
    "stablehlo": ("stablehlo", ".stablehlo"),
    "onnx": ("onnx", ".onnx"),
    "sklearn": ("pipeline", ".joblib"),
    "safetensors": ("arrays", ".safetensors"),
}


class Exported(NamedTuple):
    """A model in another format.

    Attributes:
      content: the file.
      notes: what its user has to know: inputs, and what is not inside.
    """

    content: bytes
    notes: tuple[str, ...]


def export(run: Path, form: Format, out: Path | None = None) -> tuple[Path, Exported]:
    """Writes the model of a run in another format.

    Args:
      run: The folder that ``jaxsoftmax train`` left.
      form: Which format.
      out: The file; named after the run when left out.

    Returns:
      Where the file is, and what is in it.

    Raises:
      InputError: The run is not finished, or the format cannot hold its columns.
    """
    module, suffix = FORMATS[form]
    # The libraries of a format are imported when it is asked for.
    made: Exported = importlib.import_module(f"{__name__}.{module}").write(load(run))
    path = out or Path(f"{run.resolve().name}{suffix}")
    write_file(path, made.content)
    return path, made
