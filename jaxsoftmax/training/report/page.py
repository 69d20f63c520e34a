"""``report.html`` of a run: all that it found out, on one page that needs nothing else."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxsoftmax.training.data import Dataset
from jaxsoftmax.training.model import Classifier
from jaxsoftmax.training.model.units import in_units
from jaxsoftmax.training.runs.folder import CONFUSION, CURVES, Summary
from jaxsoftmax.training.runs.state import Record, RunState

from . import charts, document, mistakes
from .describe import describe, listed
from .document import Cell, Html
from .progress import converged, ending
from .scores import Examination, Scores

COEFFICIENTS = 10  # of each class
FEW = 5  # test rows of a class
LISTED = 1000  # classes of the table
CLASSES = 50  # whose coefficients are shown
IMAGES = 20
IMAGE_ROWS = 1000  # that are looked at to see whether features are pixels


class Result(NamedTuple):
    """What a run has come to, as its page and its card tell it."""

    dataset: Dataset
    state: RunState
    model: Classifier
    tested: Examination
    summary: Summary


def write(folder: Path, result: Result) -> str:
    """The page; the figures of the run lie in the folder already."""
    summary = result.summary
    title = f"{result.dataset.label} from {Path(result.dataset.origin).name}"
    features = result.dataset.part("train").features
    step = max(1, len(features) // IMAGE_ROWS)
    shape = charts.image_shape(np.asarray(features[::step][:IMAGE_ROWS]))
    parts = [
        Html(f"<h1>{document.text(title)}</h1>"),
        document.paragraph(
            f"{summary.rows:,} rows, {summary.features:,} features, {summary.classes:,} classes; "
            f"{result.state.config.solver.name}, l2 {summary.l2:.3g}",
            "muted",
        ),
        headline(result.tested.scores),
        *warnings(result),
        document.section("Training", *training(folder, result)),
        document.section("Mistakes", *confusion(folder, result)),
        document.section("Classes", *classes(result.tested.scores)),
        document.section("Coefficients", *coefficients(result.model)),
        *images(result, shape),
        document.section("Wrong, and sure of it", *sure_and_wrong(result, shape)),
        document.section("Data", document.preformatted(describe(result.dataset))),
        document.section("How to make it again", *origin(result)),
    ]
    return document.document(title, parts)


def headline(scores: Scores) -> Html:
    """The scores of the test rows, each beside its baseline or interval."""
    baseline, shown = scores.baseline, document.number

    def interval(name: str) -> str:
        low, high = scores.intervals[name]
        return f"95 %: {shown(low)} to {shown(high)}"

    found = [
        ("accuracy", shown(scores.accuracy), interval("accuracy")),
        ("always " + baseline.label, shown(baseline.accuracy), "accuracy of the baseline"),
        ("log-loss, nats", shown(scores.log_loss), interval("log_loss")),
        ("class frequencies", shown(baseline.log_loss), "log-loss of the baseline"),
        ("calibration error", shown(scores.calibration_error), f"{scores.rows:,} test rows"),
    ]
    for title, name in (("balanced accuracy", "balanced_accuracy"), ("macro F1", "macro_f1")):
        beside = interval(name) if name in scores.intervals else ""
        found.append((title, shown(getattr(scores, name)), beside))
    if scores.top_5_accuracy is not None:
        found.append(("top-5 accuracy", shown(scores.top_5_accuracy), interval("top_5_accuracy")))
    if scores.roc_auc is not None:
        found.append(("area under ROC", shown(scores.roc_auc), "mean over classes"))
    return document.tiles(found)


def warnings(result: Result) -> Iterator[Html]:
    """What a reader must know before believing the numbers."""
    if not converged(result.state.config, result.summary):
        ended = ending(result.state.config, result.summary)
        yield document.paragraph(f"The solver {ended}.", "warning")
    few = [entry.name for entry in result.tested.scores.classes if entry.rows < FEW]
    if few:
        words = f"Fewer than {FEW} test rows stand behind the scores of {listed(few)}."
        yield document.paragraph(words, "warning")


def training(folder: Path, result: Result) -> Iterator[Html]:
    """Curves, convergence, and the table of penalties."""
    records, scores = result.state.records, result.tested.scores
    last = records[-1]
    yield document.figure(
        (folder / CURVES).read_bytes(),
        "png",
        f"Loss and accuracy; at the end: train {last.train_loss:.4g} and "
        f"{last.train_accuracy:.4g}, test {scores.log_loss:.4g} and {scores.accuracy:.4g}.",
        width=1000,
    )
    path = [record for record in records if record.stage < last.stage]
    final = records[len(path) :]
    summary = result.summary
    yield document.paragraph(
        f"{summary.iterations:,} steps to a gradient whose largest entry is "
        f"{summary.gradient_norm:.2g} ({ending(result.state.config, summary)}); "
        f"{summary.compile_seconds:.2f} s compiling, {summary.train_seconds:.2f} s training."
    )
    if len(final) > 1:
        alt = f"The gradient falls from {final[0].gradient_norm:.2g} to {last.gradient_norm:.2g}."
        yield document.figure(document.svg(charts.convergence(final)), "svg+xml", alt)
    if path:
        yield document.paragraph("The penalties that were tried, and what they gave:")
        yield document.table(
            ("l2", "train loss", "accuracy", "validation loss", "accuracy", "steps"),
            [_of_penalty(record) for record in path],
        )


def _of_penalty(record: Record) -> Sequence[Cell]:
    return (
        record.l2,
        record.train_loss,
        record.train_accuracy,
        record.validation_loss,
        record.validation_accuracy,
        record.epoch,
    )


def confusion(folder: Path, result: Result) -> Iterator[Html]:
    """What is taken for what, and how far probabilities can be believed."""
    scores, answers, _ = result.tested
    right = int(answers.right.sum())
    yield document.figure(
        (folder / CONFUSION).read_bytes(),
        "png",
        f"{right} of {scores.rows} test rows right, by true and predicted class.",
        width=560,
    )
    drawn = charts.calibration(answers.right, answers.confidence)
    alt = f"The expected calibration error is {scores.calibration_error:.4g}."
    yield document.figure(document.svg(drawn), "svg+xml", alt)


def classes(scores: Scores) -> Iterator[Html]:
    """One row a class, those with most test rows first where there are many; headings sort."""
    shown = scores.classes
    if len(shown) > LISTED:
        yield document.paragraph(
            f"The {LISTED:,} of {len(shown):,} classes that have most test rows; "
            f"scores.json has all."
        )
        shown = tuple(sorted(shown, key=lambda c: -c.rows)[:LISTED])
    yield document.table(
        ("class", "test rows", "precision", "recall", "F1"),
        [(c.name, c.rows, c.precision, c.recall, c.f1) for c in shown],
    )


def coefficients(model: Classifier) -> Iterator[Html]:
    """The largest of each class: how much a feature adds to its logit."""
    standard = np.asarray(model.params.kernel, np.float64)
    found, names = in_units(model), list(model.classes)
    units = standard if found is None else found.kernel
    bias = None if found is None else found.bias
    if len(names) == 2:  # only the difference of the two says anything
        standard, units = (kernel[:, 1:] - kernel[:, :1] for kernel in (standard, units))
        bias = None if bias is None else bias[1:] - bias[:1]
        names = [f"{names[1]} against {names[0]}"]
    unit = "one unit of the data" if found else "one unit of the row, scaled to length 1"
    yield document.paragraph(
        f"What a feature adds to the logit of a class for {unit}, and standardised, by which the "
        f"{COEFFICIENTS} largest of each class are chosen."
    )
    rows: list[Sequence[Cell]] = []
    for c, name in enumerate(names[:CLASSES]):
        largest = np.argsort(-np.abs(standard[:, c]), kind="stable")[:COEFFICIENTS]
        if bias is not None:
            rows.append((name, "(bias)", float(bias[c]), None))
        rows += [
            (name, model.columns.features[d], float(units[d, c]), float(standard[d, c]))
            for d in largest
        ]
    yield document.table(("class", "feature", "for one unit", "standardised"), rows)
    if len(names) > CLASSES:
        yield document.paragraph(f"{len(names) - CLASSES} further classes are not shown.", "muted")


def images(result: Result, shape: tuple[int, int] | None) -> Iterator[Html]:
    """The kernel as images, where the features are one."""
    if shape is None:
        return
    kernel = np.asarray(result.model.params.kernel).T.reshape(-1, *shape)[:IMAGES]
    drawn = charts.gallery(kernel, result.model.classes, "RdBu_r")
    yield document.section(
        "The kernel as images",
        document.paragraph("Red speaks for the class, blue against it."),
        document.figure(document.svg(drawn), "svg+xml", "The kernel of each class as an image."),
    )


def sure_and_wrong(result: Result, shape: tuple[int, int] | None) -> Iterator[Html]:
    """Rows of the data, by number, with the features that misled."""
    span = result.dataset.parts.test
    part, numbers = result.dataset.part("test"), result.dataset.rows[span]
    found = mistakes.most_confident(result.model, part.features, result.tested.answers)
    if not found:
        yield document.paragraph(f"None of {len(part.labels):,} test rows is wrong.")
        return
    yield document.paragraph(
        "Rows of the source, counted from 0, and the features that spoke most for the wrong "
        "class: as the row has them, and by how much of a logit."
    )
    rows: list[Sequence[Cell]] = []
    for mistake in found:
        reasons = (f"{r.feature} = {r.value:.4g} ({r.logits:+.2f})" for r in mistake.reasons)
        rows.append(
            (
                int(numbers[mistake.place]),
                mistake.true,
                mistake.predicted,
                mistake.probability,
                mistake.probability_of_true,
                "; ".join(reasons),
            )
        )
    headings = ("row", "true", "predicted", "probability", "of the true", "because of")
    yield document.table(headings, rows)
    if shape is not None:
        chosen = [mistake.place for mistake in found]
        pixels = mistakes.in_data(result.model, part.features[chosen].astype(np.float64))
        titles = [f"{m.true}, not {m.predicted}" for m in found]
        drawn = charts.gallery(pixels.reshape(-1, *shape), titles, "gray_r")
        yield document.figure(document.svg(drawn), "svg+xml", "The same rows as images.")


def origin(result: Result) -> Iterator[Html]:
    """Environment and config."""
    summary = result.summary
    yield document.table(
        ("what", "which"),
        [
            *summary.versions.items(),
            ("python", platform.python_version()),
            ("system", f"{platform.system()} {platform.machine()}"),
            ("device", summary.device),
            ("data, SHA-256", summary.data_sha256),
        ],
    )
    config = json.loads(result.state.config.model_dump_json())
    yield document.details("config.json", json.dumps(config, indent=2, ensure_ascii=False))
    if summary.classes <= LISTED:
        yield document.details("scores.json", result.tested.scores.model_dump_json(indent=2))
