"""What is measured on a held-out part, in NumPy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jaxsoftmax.training.data import Dataset, Part
from jaxsoftmax.training.model import Classifier

Probabilities = npt.NDArray[np.floating]  # (rows, classes)
Labels = npt.NDArray[np.integer]  # (rows,)


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
    rows = np.arange(len(labels))
    return float(-np.mean(np.log(probabilities[rows, labels], dtype=np.float64)))


def confusion_matrix(labels: Labels, predictions: Labels, classes: int) -> npt.NDArray[np.int64]:
    """Counts ``(classes, classes)``: row = true class, column = predicted class."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predictions), 1)
    return counts


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


class Examination(NamedTuple):
    """How a model does on rows it has not seen; confusion is ``(true, predicted)`` counts."""

    rows: int
    loss: float
    accuracy: float
    calibration_error: float
    confusion: npt.NDArray[np.int64]


class Majority(NamedTuple):
    """What always saying the most frequent class of the training part gives on the test part."""

    label: str
    accuracy: float


def examine(model: Classifier, part: Part) -> Examination:
    """Scores a model on one part of the data."""
    probabilities = model.probabilities(part.features)
    predictions = probabilities.argmax(axis=1)
    return Examination(
        len(part.labels),
        negative_log_likelihood(part.labels, probabilities),
        accuracy(part.labels, predictions),
        expected_calibration_error(part.labels, probabilities),
        confusion_matrix(part.labels, predictions, len(model.classes)),
    )


def majority(dataset: Dataset) -> Majority:
    """The baseline that every accuracy stands beside."""
    winner = int(np.bincount(dataset.part("train").labels).argmax())
    return Majority(dataset.classes[winner], accuracy(dataset.part("test").labels, winner))
