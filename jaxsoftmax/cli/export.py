"""``jaxsoftmax export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from .arguments import Run


def export(
    run_folder: Run,
    *,
    form: Annotated[
        Literal["stablehlo", "onnx", "sklearn", "safetensors"], Parameter(name="--format")
    ],
    out: Path | None = None,
) -> None:
    """Write the model of a run in another format, with its preprocessing as far as that can be.

    Args:
      run_folder: The folder that train left.
      form: stablehlo runs wherever XLA does, onnx in ONNX runtimes, sklearn is a fitted pipeline,
        safetensors holds the arrays.
      out: The file to write; named after the run when left out.
    """
    from jaxsoftmax.training.export import export as write

    path, made = write(run_folder, form, out)
    print(f"wrote {path}")
    for note in made.notes:
        print(f"note    {note}")
