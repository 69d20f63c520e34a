"""Several runs on one page: their scores, and what was different about them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.runs.folder import CONFIG, SCORES, Summary, read_summary

from . import charts, document
from .document import Cell, Html
from .scores import Scores

if TYPE_CHECKING:
    from jaxsoftmax.training.learning import Point

NOTHING = "–"


class Run(NamedTuple):
    """What a finished run has left."""

    folder: Path
    summary: Summary
    scores: Scores
    config: dict[str, Any]


def read(folder: Path) -> Run:
    """Reads the numbers of a run.

    Raises:
      InputError: the folder holds no finished run.
    """
    summary = read_summary(folder)
    try:
        scores = Scores.model_validate_json((folder / SCORES).read_bytes())
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError, ValidationError) as error:
        raise InputError(f"{folder}: is damaged: {error}") from None
    return Run(folder, summary, scores, config)


def page(runs: Sequence[Run], curves: Sequence[Sequence[Point]] = ()) -> str:
    """The page, runs in the order that they are given in, each with its learning curve if any."""
    names = [run.folder.name for run in runs]
    same = len({run.summary.data_sha256 for run in runs}) == 1
    values = [(low, run.scores.accuracy, high) for run, (low, high) in _accuracies(runs)]
    drawn = charts.intervals(names, values)
    told = "All were trained and tested on the same encoded rows."
    if not same:
        told = (
            "They were not trained and tested on the same encoded rows: differences may be those "
            "of the rows. `jaxsoftmax compare` compares two on the rows that both were tested on."
        )
    parts = [
        Html(f"<h1>{len(runs)} runs</h1>"),
        document.paragraph(told, "muted" if same else "warning"),
        document.figure(document.svg(drawn), "svg+xml", "Test accuracies and their intervals."),
        document.section("Scores", _scores(runs)),
        document.section("What was different", _differences(runs)),
    ]
    if curves:
        told = (
            "Each run trained again on some of its rows, with the same penalty for each row. Where "
            "the two losses are far apart, more rows would help; where they meet, other features."
        )
        drawn_curves = itertools.chain.from_iterable(map(_learning, runs, curves))
        parts.append(document.section("Training rows", document.paragraph(told), *drawn_curves))
    return document.document(", ".join(names), parts)


def _learning(run: Run, points: Sequence[Point]) -> Iterator[Html]:
    last = points[-1]
    drawn = charts.learning(points, run.scores.baseline)
    alt = f"{run.folder.name}: {last.rows:,} rows give a test loss of {last.test_loss:.4g}."
    yield document.paragraph(run.folder.name)
    yield document.figure(document.svg(drawn), "svg+xml", alt)
    headings = ("rows", "train loss", "accuracy", "test loss", "accuracy")
    yield document.table(headings, points)


def _accuracies(runs: Sequence[Run]) -> list[tuple[Run, tuple[float, float]]]:
    return [(run, run.scores.intervals["accuracy"]) for run in runs]


def _scores(runs: Sequence[Run]) -> Html:
    headings = (
        "run", "solver", "l2", "test rows", "accuracy", "from", "to", "log-loss",
        "balanced accuracy", "macro F1", "calibration error", "steps", "status", "seconds",
    )  # fmt: skip
    rows: list[Sequence[Cell]] = [
        (
            run.folder.name,
            str(run.config["solver"]["name"]),
            run.summary.l2,
            run.scores.rows,
            run.scores.accuracy,
            *bounds,
            run.scores.log_loss,
            run.scores.balanced_accuracy,
            run.scores.macro_f1,
            run.scores.calibration_error,
            run.summary.iterations,
            run.summary.status,
            run.summary.train_seconds,
        )
        for run, bounds in _accuracies(runs)
    ]
    return document.table(headings, rows)


def _differences(runs: Sequence[Run]) -> Html:
    """The keys that not all configs have the same value for."""
    flat = [dict(_flat(run.config)) for run in runs]
    keys = list(dict.fromkeys(key for config in flat for key in config))
    rows = [
        [key, *(_told(config, key) for config in flat)]
        for key in keys
        if len({_told(config, key) for config in flat}) > 1
    ]
    if not rows:
        return document.paragraph("Nothing: all have the same config.")
    return document.table(("key", *(run.folder.name for run in runs)), rows)


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found


def _told(config: dict[str, Any], key: str) -> str:
    return json.dumps(config[key], ensure_ascii=False) if key in config else NOTHING
