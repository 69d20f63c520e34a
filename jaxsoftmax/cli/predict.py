"""``jaxsoftmax predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from .arguments import Run, usage


def predict(
    run_folder: Run,
    *,
    input_: Annotated[Path, Parameter(name="--input", allow_leading_hyphen=True)],
    output: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    keep: str | None = None,
    top: int | None = None,
    classes_only: Annotated[bool, Parameter(negative=())] = False,
    on_bad_row: Literal["error", "skip", "nan"] = "error",
) -> None:
    """Classify rows: the class and the probability of every class, as CSV.

    Args:
      run_folder: The folder that train left.
      input_: Raw rows with the columns of training in any order: CSV, Parquet, Arrow, JSON
        lines or NPY; - is CSV from standard input.
      output: The CSV to write; standard output when left out, or -.
      keep: Columns of the input to pass on, as in --keep id,name.
      top: Write only so many of the most probable classes.
      classes_only: Write only the most probable class.
      on_bad_row: What happens to a row that cannot be read: error stops, skip leaves it out, nan
        leaves its answer empty.
    """
    from jaxsoftmax.training import prediction

    if top is not None and (top < 1 or classes_only):
        usage("--top: expected a number from 1, and not together with --classes-only")
    answer = prediction.Answer(
        tuple(keep.split(",")) if keep else (), top, classes_only, on_bad_row
    )
    target = None if output is None or str(output) == "-" else output
    done = prediction.predict(run_folder, input_, target, answer)
    for name, count in done.unseen.items():
        print(f"note: {count} rows have a '{name}' that training had not", file=sys.stderr)
    if done.bad:
        print(f"note: {done.bad} rows could not be read ({on_bad_row})", file=sys.stderr)
