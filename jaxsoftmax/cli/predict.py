"""``jaxsoftmax predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .arguments import Run


def predict(
    run_folder: Run,
    *,
    input_: Annotated[Path, Parameter(name="--input")],
    output: Path | None = None,
) -> None:
    """Classify rows of features: the class and the probability of every class, as CSV.

    Args:
      run_folder: The folder that train left.
      input_: A .npy matrix (rows x features), or a .csv whose header names the features.
      output: The CSV to write; standard output when left out.
    """
    from jaxsoftmax.training import files, prediction

    text = prediction.predict(run_folder, input_)
    if output is None:
        sys.stdout.write(text)
    else:
        files.write_file(output, text.encode())
