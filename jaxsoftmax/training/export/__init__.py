"""A model in other formats: with its preprocessing inside, as far as the format can.

| format | inside | not inside |
|---|---|---|
| onnx | everything | |
| sklearn | everything | text that means "missing" beyond what the reader of the table knows |
| stablehlo | numbers, vectors, one-hot | text: a category comes as its number |
| safetensors | mean and scale of each feature, names | columns: features must be numbers |
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from jaxsoftmax.training.files import write_file
from jaxsoftmax.training.model import Classifier, load

Format = Literal["stablehlo", "onnx", "sklearn", "safetensors"]
FORMATS: tuple[str, ...] = get_args(Format)
SUFFIXES = {
    "stablehlo": ".stablehlo",
    "onnx": ".onnx",
    "sklearn": ".joblib",
    "safetensors": ".safetensors",
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
    made = _writer(form)(load(run))
    path = out or Path(f"{run.resolve().name}{SUFFIXES[form]}")
    write_file(path, made.content)
    return path, made


def _writer(form: Format) -> Callable[[Classifier], Exported]:
    """Each format's library is imported when it is asked for."""
    if form == "stablehlo":
        from . import stablehlo as chosen
    elif form == "onnx":
        from . import onnx as chosen  # type: ignore[no-redef]
    elif form == "sklearn":
        from . import pipeline as chosen  # type: ignore[no-redef]
    else:
        from . import arrays as chosen  # type: ignore[no-redef]
    return chosen.write
