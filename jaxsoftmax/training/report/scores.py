"""What is measured on a held-out part, in NumPy."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jaxsoftmax.training.data import Dataset
from jaxsoftmax.training.data.columns import Features
from jaxsoftmax.training.files import write_file
from jaxsoftmax.training.model import Classifier
from jaxsoftmax.training.schema import Section

Probabilities = npt.NDArray[np.floating]  # (rows, classes)
Labels = npt.NDArray[np.integer]  # (rows,)

INTERVALS = ("log_loss", "accuracy", "balanced_accuracy", "macro_f1", "top_5_accuracy")
MOST_DRAWS = 50_000_000  # of rows, for all resamples of the bootstrap
MOST_CLASSES_RESAMPLED = 1000


class Bins(NamedTuple):
    """A reliability diagram: per confidence bin, the rows in it and two means over them."""

    rows: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]


def accuracy(labels: Labels, predictions: Labels) -> float:
    """Share of right predictions."""
    return float(np.mean(labels == predictions))


def negative_log_likelihood(labels: Labels, probabilities: Probabilities) -> float:
    """Mean of -ln p[label], in nats."""
    return float(np.mean(losses(labels, probabilities)))


def losses(labels: Labels, probabilities: Probabilities) -> npt.NDArray[np.float64]:
    """-ln p[label] of each row; a probability that float32 rounds to 0 counts as the smallest."""
    mine = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.maximum(mine, np.finfo(np.float32).tiny))


def confusion_matrix(labels: Labels, predictions: Labels, classes: int) -> npt.NDArray[np.int64]:
    """Counts ``(classes, classes)``: row = true class, column = predicted class."""
    pairs = labels.astype(np.int64) * classes + predictions
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def reliability(labels: Labels, probabilities: Probabilities, bins: int = 15) -> Bins:
    """Confidence and accuracy in equal-width bins of the winning probability; 0 in empty bins."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    which = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    count = np.bincount(which, minlength=bins)
    size = np.maximum(count, 1)
    return Bins(
        count,
        np.bincount(which, confidence, minlength=bins) / size,
        np.bincount(which, right, minlength=bins) / size,
    )


def expected_calibration_error(
    labels: Labels, probabilities: Probabilities, bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over the bins, weighted by their rows.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599.
    """
    diagram = reliability(labels, probabilities, bins)
    gaps = np.abs(diagram.confidence - diagram.accuracy)
    return float(np.sum(diagram.rows * gaps) / np.sum(diagram.rows))


class PerClass(Section):
    """How one class does; null where it has no row, or is never predicted."""

    name: str
    rows: int
    precision: float | None
    recall: float | None
    f1: float | None


class Baseline(Section):
    """What always saying the most frequent class of the training part gives."""

    label: str
    accuracy: float
    log_loss: float


class Scores(Section):
    """The contents of ``scores.json``: numbers of one part, in nats and shares.

    ``intervals`` hold 95 % of 200 to 1000 resamples of the rows (percentile bootstrap). A balanced
    accuracy and a macro-F1 are means over the classes that have rows; the area under the ROC curve
    is that of each class against the rest, meant over those that have rows and are not all.
    """

    rows: int
    log_loss: float
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    top_5_accuracy: float | None
    roc_auc: float | None
    calibration_error: float
    intervals: dict[str, tuple[float, float]]
    baseline: Baseline
    classes: tuple[PerClass, ...]


class Examination(NamedTuple):
    """How a model does on rows it has not seen; confusion is ``(true, predicted)`` counts."""

    scores: Scores
    confusion: npt.NDArray[np.int64]
    probabilities: Probabilities
    labels: Labels


def examine(
    model: Classifier, features: Features, labels: Labels, majority: Majority, seed: int = 0
) -> Examination:
    """Scores a model on encoded rows."""
    probabilities = model.probabilities(features)
    return Examination(
        score(labels, probabilities, model.classes, majority, seed),
        confusion_matrix(labels, probabilities.argmax(axis=1), len(model.classes)),
        probabilities,
        labels,
    )


class Majority(NamedTuple):
    """The class frequencies of the training part."""

    classes: tuple[str, ...]
    shares: npt.NDArray[np.float64]

    @classmethod
    def of(cls, dataset: Dataset) -> Majority:
        """Those of a data set."""
        part = dataset.part("train")
        counts = np.bincount(part.labels, part.weights, minlength=len(dataset.classes))
        return cls(dataset.classes, counts / counts.sum())

    def baseline(self, labels: Labels) -> Baseline:
        """How the most frequent class does, and the log-loss of the frequencies themselves."""
        winner = int(self.shares.argmax())
        floor = 0.5 / max(len(labels), 2)  # a class that training has not
        surprise = -np.log(np.maximum(self.shares, floor))
        return Baseline(
            label=self.classes[winner],
            accuracy=float(np.mean(labels == winner)),
            log_loss=float(np.mean(surprise[labels])),
        )


def score(
    labels: Labels,
    probabilities: Probabilities,
    classes: Sequence[str],
    majority: Majority,
    seed: int = 0,
) -> Scores:
    """All numbers of one part."""
    predictions = probabilities.argmax(axis=1)
    confusion = confusion_matrix(labels, predictions, len(classes))
    return Scores(
        rows=len(labels),
        log_loss=negative_log_likelihood(labels, probabilities),
        accuracy=accuracy(labels, predictions),
        balanced_accuracy=_balanced(confusion),
        macro_f1=_macro_f1(confusion),
        top_5_accuracy=float(np.mean(_in_top(5, labels, probabilities)))
        if len(classes) > 5
        else None,
        roc_auc=_roc_auc(labels, probabilities),
        calibration_error=expected_calibration_error(labels, probabilities),
        intervals=_intervals(labels, probabilities, predictions, seed),
        baseline=majority.baseline(labels),
        classes=tuple(_per_class(i, name, confusion) for i, name in enumerate(classes)),
    )


def _per_class(index: int, name: str, confusion: npt.NDArray[np.int64]) -> PerClass:
    right, true, predicted = _counts(confusion)
    share = float(right[index])
    return PerClass(
        name=name,
        rows=int(true[index]),
        precision=share / float(predicted[index]) if predicted[index] else None,
        recall=share / float(true[index]) if true[index] else None,
        f1=2 * share / float(true[index] + predicted[index]) if true[index] else None,
    )


def _counts(
    confusion: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Right, true and predicted rows of each class; leading axes are kept."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    return right, confusion.sum(axis=-1), confusion.sum(axis=-2)


def _balanced(confusion: npt.NDArray[np.int64]) -> float:
    right, true, _ = _counts(confusion)
    return float(np.mean(right[true > 0] / true[true > 0]))


def _macro_f1(confusion: npt.NDArray[np.int64]) -> float:
    right, true, predicted = _counts(confusion)
    counted = true + predicted > 0
    return float(np.mean(2 * right[counted] / (true + predicted)[counted]))


def _in_top(k: int, labels: Labels, probabilities: Probabilities) -> npt.NDArray[np.bool_]:
    """Whether fewer than k classes come before the label: `LossStats.rank`, ties by number."""
    mine = probabilities[np.arange(len(labels)), labels][:, np.newaxis]
    lower = np.arange(probabilities.shape[1]) < labels[:, np.newaxis]
    return np.sum((probabilities > mine) | ((probabilities == mine) & lower), axis=1) < k


def _roc_auc(labels: Labels, probabilities: Probabilities) -> float | None:
    areas = [
        area_under_roc(labels == i, probabilities[:, i])
        for i in np.unique(labels)
        if not np.all(labels == i)
    ]
    return float(np.mean(areas)) if areas else None


def area_under_roc(positive: npt.NDArray[np.bool_], scores: Probabilities) -> float:
    """How often a positive row has a higher score than a negative one; ties count half.

    Mann and Whitney's statistic, from ranks. That of scikit-learn costs a second of imports.
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    count = int(positive.sum())
    above = ranks[positive].sum() - count * (count + 1) / 2
    return float(above / (count * (len(positive) - count)))


def _intervals(
    labels: Labels, probabilities: Probabilities, predictions: Labels, seed: int
) -> dict[str, tuple[float, float]]:
    rows, classes = len(labels), probabilities.shape[1]
    times = int(np.clip(MOST_DRAWS // max(rows, classes * classes), 200, 1000))
    random = np.random.default_rng(seed)
    each = losses(labels, probabilities)
    top = _in_top(5, labels, probabilities)
    drawn: dict[str, list[float]] = {name: [] for name in INTERVALS}
    for _ in range(times):
        chosen = random.integers(0, rows, rows)
        drawn["log_loss"].append(float(each[chosen].mean()))
        drawn["accuracy"].append(float(np.mean(labels[chosen] == predictions[chosen])))
        drawn["top_5_accuracy"].append(float(top[chosen].mean()))
        if classes <= MOST_CLASSES_RESAMPLED:
            confusion = confusion_matrix(labels[chosen], predictions[chosen], classes)
            drawn["balanced_accuracy"].append(_balanced(confusion))
            drawn["macro_f1"].append(_macro_f1(confusion))
    if classes <= 5:
        del drawn["top_5_accuracy"]
    bounds = {name: np.percentile(values, [2.5, 97.5]) for name, values in drawn.items() if values}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}


def write(folder: Path, examination: Examination, classes: Sequence[str], prefix: str = "") -> None:
    """``scores.json`` and ``confusion.csv``: rows are true classes, columns predictions."""
    text = examination.scores.model_dump_json(indent=2)
    write_file(folder / f"{prefix}scores.json", text.encode())
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["true \\ predicted", *classes])
    writer.writerows(
        [name, *row] for name, row in zip(classes, examination.confusion.tolist(), strict=True)
    )
    write_file(folder / f"{prefix}confusion.csv", out.getvalue().encode())
