"""``jaxsoftmax evaluate``."""

from __future__ import annotations

import operator
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .arguments import Run, usage

QUALITY = 3  # the exit code of a score that is too low


def evaluate(
    run_folder: Run,
    *,
    data: Annotated[list[Path] | None, Parameter(negative=())] = None,
    path: Path | None = None,
    label_map: Annotated[list[str] | None, Parameter(negative=())] = None,
    fail_under: Annotated[list[str] | None, Parameter(negative=())] = None,
    out: Path | None = None,
) -> None:
    """Test the model of a run: on its own test rows, or on all rows of labelled files.

    Args:
      run_folder: The folder that train left.
      data: A labelled file with the columns of training; may be repeated.
      path: Where the run's own data are now, if they have moved.
      label_map: OTHER=NAME, what a label of the file is called in the model; OTHER= leaves its
        rows out; may be repeated.
      fail_under: SCORE=VALUE, as in accuracy=0.95: exit code 3 when it is lower (log_loss and
        calibration_error: higher); may be repeated.
      out: A folder for scores.json and confusion.csv of what is tested.
    """
    from jaxsoftmax.training import evaluation
    from jaxsoftmax.training.report import progress, scores

    names = dict(_pair(text, "--label-map") for text in label_map or ())
    limits = {name: _limit(name, value) for name, value in map(_score, fail_under or ())}
    failed = []
    files: list[Path | None] = [*(data or ())] or [None]
    for file in files:
        if file is None:
            found, title = evaluation.evaluate(run_folder, path), "test"
        else:
            found, title = evaluation.evaluate_file(run_folder, file, names), file.name
        print(progress.scores_lines(found.scores, title))
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            scores.write(out, found, "" if file is None else f"{file.stem}-")
        for name, limit in limits.items():
            value = getattr(found.scores, name)
            worse = operator.gt if name in ("log_loss", "calibration_error") else operator.lt
            if value is None or worse(value, limit):
                failed.append(f"{title}: {name} is {value:.6g}, the limit is {limit:g}")
    if failed:
        print("\n".join(failed), file=sys.stderr)
        sys.exit(QUALITY)


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        usage(f"{option} {text}: expected NAME=VALUE")
    return name, value


def _score(text: str) -> tuple[str, str]:
    return _pair(text, "--fail-under")


def _limit(name: str, value: str) -> float:
    from jaxsoftmax.training.report.scores import Scores

    known = [key for key, field in Scores.model_fields.items() if "float" in str(field.annotation)]
    known.remove("intervals")
    if name not in known:
        usage(f"--fail-under {name}: choose one of {', '.join(known)}")
    try:
        return float(value)
    except ValueError:
        usage(f"--fail-under {name}={value}: expected a number")
