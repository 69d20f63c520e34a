"""``MODEL_CARD.md``: what the model is, what it was tested on, and where not to trust it.

Sections after Mitchell et al., Model Cards for Model Reporting, FAT* 2019, arXiv:1810.03993; only
what the run itself knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .describe import describe, listed
from .page import Result
from .progress import ending
from .scores import PerClass

FEW = 30  # test rows, below which the scores of a class say little
ROWS = 50  # of the table of classes


def markdown(result: Result) -> str:
    """The card."""
    summary, scores = result.summary, result.tested.scores
    columns = result.model.columns.names
    low, high = scores.intervals["accuracy"]
    parts = [
        f"# {result.dataset.label} from {Path(result.dataset.origin).name}",
        "",
        (
            f"A linear softmax classifier: it reads {listed(columns)} and gives the probability of "
            f"each of {summary.classes:,} classes ({listed(result.model.classes)})."
        ),
        "",
        "```python",
        "from jaxsoftmax.training import load",
        "",
        'load("this folder").predict(frame).labels',
        "```",
        "",
        "## Scores on the test rows",
        "",
        "| | model | baseline |",
        "|---|---:|---:|",
        (
            f"| accuracy | {scores.accuracy:.4f} ({low:.4f} to {high:.4f}) "
            f"| {scores.baseline.accuracy:.4f}, always {_cell(scores.baseline.label)} |"
        ),
        (
            f"| log-loss, nats | {scores.log_loss:.4f} "
            f"| {scores.baseline.log_loss:.4f}, the class frequencies |"
        ),
        f"| balanced accuracy | {scores.balanced_accuracy:.4f} | {1 / summary.classes:.4f} |",
        f"| calibration error | {scores.calibration_error:.4f} | |",
        "",
        (
            f"{scores.rows:,} rows that took no part in training or in choosing the penalty; "
            f"the interval is of 95 % (Wilson)."
        ),
        "",
        "| class | test rows | precision | recall |",
        "|---|---:|---:|---:|",
        *(_row(entry) for entry in scores.classes[:ROWS]),
        "",
        "## What it was trained on",
        "",
        "```",
        describe(result.dataset),
        "```",
        "",
        f"SHA-256 of the encoded rows: `{summary.data_sha256}`",
        "",
        "## How",
        "",
        f"{result.state.config.solver.name}, {summary.iterations:,} steps "
        f"({ending(result.state.config, summary)}), l2 {summary.l2:.3g}, "
        f"seed {result.state.config.seed}; "
        + ", ".join(f"{name} {version}" for name, version in summary.versions.items())
        + f"; {summary.device}. `jaxsoftmax train config.json` makes it again.",
        "",
        "## Where not to trust it",
        "",
        *(f"- {line}" for line in _limits(result)),
        "",
    ]
    return "\n".join(parts)


def _limits(result: Result) -> Iterator[str]:
    scores = result.tested.scores
    yield (
        "It is linear in the features above: what only shows in products of them, it cannot see."
    )
    yield "It always names one of its classes; a row of none of them gets one of them too."
    few = [entry.name for entry in scores.classes if entry.rows < FEW]
    if few:
        yield f"Fewer than {FEW} test rows stand behind the scores of {listed(few)}."
    missed = [entry.name for entry in scores.classes if entry.rows and not entry.recall]
    if missed:
        yield f"No test row of {listed(missed)} was recognised."
    if result.model.columns.missing_values:
        yield (
            "A number that is missing counts as the mean; a category that training had not, "
            "as none of the known ones."
        )


def _row(entry: PerClass) -> str:
    values = ("–" if value is None else f"{value:.4f}" for value in (entry.precision, entry.recall))
    return f"| {_cell(entry.name)} | {entry.rows:,} | {' | '.join(values)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
