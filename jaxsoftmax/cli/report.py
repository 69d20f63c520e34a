"""``jaxsoftmax report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .arguments import usage


def report(
    runs: Annotated[list[Path], Parameter(negative=())],
    *,
    out: Path = Path("report.html"),
    tensorboard: Path | None = None,
    standard_errors: Path | None = None,
    learning_curve: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Compare finished runs on one page; that of a single run lies in its folder.

    Args:
      runs: The folders that train left.
      out: The page to write.
      tensorboard: A folder for TensorBoard, with the course of each run; needs tensorboardX.
      standard_errors: A CSV file for the coefficients of a single run with their standard errors,
        from the Hessian at the optimum; the run's data must be where they were.
      learning_curve: Train each run again on a half of its rows, a quarter and so on, and show what
        they give; the runs' data must be where they were.
    """
    from jaxsoftmax.training.files import write_file
    from jaxsoftmax.training.report import comparison, events

    found = [comparison.read(folder) for folder in runs]
    if tensorboard is not None:
        events.write(tensorboard, found)
        print(f"wrote {tensorboard}")
    if standard_errors is not None:
        if len(runs) > 1:
            usage("--standard-errors: is for a single run")
        from jaxsoftmax.training import evaluation

        write_file(standard_errors, evaluation.standard_errors(runs[0]).encode())
        print(f"wrote {standard_errors}")
    curves = []
    if learning_curve:
        from jaxsoftmax.training import learning

        curves = [learning.learning_curve(folder) for folder in runs]
    write_file(out, comparison.page(found, curves).encode())
    print(f"wrote {out}")
