"""What is measured on a held-out part, in NumPy."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jaxsoftmax.training.data import Dataset
from jaxsoftmax.training.files import write_file
from jaxsoftmax.training.model import Classifier
from jaxsoftmax.training.schema import Section
from jaxsoftmax.training.sparse import Matrix

Probabilities = npt.NDArray[np.floating]  # (rows, classes)
Labels = npt.NDArray[np.integer]  # (rows,)
Blocks = Iterator[tuple[Labels, Probabilities]]  # some rows at a time

TOP = 5
CONFIDENT = 1.959963984540054  # the 97.5 % quantile of the normal distribution
MOST_DRAWS = 50_000_000  # of rows, for all resamples of the bootstrap
HELD = 1 << 26  # probabilities that are kept for the area under the ROC curve
MOST_CLASSES = 1000  # above, classes and pairs are told of that occur, and means have no interval


class Bins(NamedTuple):
    """A reliability diagram: per confidence bin, the rows in it and two means over them."""

    rows: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]


class Answers(NamedTuple):
    """What a model says of N labelled rows, in numbers that do not grow with the classes.

    Attributes:
      labels: The class of each row.
      predictions: The most probable one.
      confidence: Its probability.
      losses: -ln p[label], in nats; a p that float32 rounds to 0 counts as its smallest number.
      rank: How many classes come before the label, ties by number.
      probabilities: ``(N, C)``, or None where these would be more than 256 MB.
    """

    labels: Labels
    predictions: Labels
    confidence: npt.NDArray[np.float64]
    losses: npt.NDArray[np.float64]
    rank: npt.NDArray[np.int64]
    probabilities: Probabilities | None

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Which predictions are."""
        right: npt.NDArray[np.bool_] = self.predictions == self.labels
        return right

    def top_accuracy(self, k: int) -> float:
        """The share of rows whose label is among the k most probable classes, for any k."""
        return float(np.mean(self.rank < k))

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """Those of all rows."""
        *fields, held = zip(*parts, strict=True)
        kept = None if any(block is None for block in held) else np.concatenate(held)
        labels, predictions, confidence, losses, rank = map(np.concatenate, fields)
        return cls(labels, predictions, confidence, losses, rank, kept)


def judge(labels: Labels, blocks: Iterable[Probabilities]) -> Answers:
    """Compares labels with probabilities that come in blocks of rows, one held at a time."""
    return judge_parts(beside(labels, blocks))


def judge_parts(blocks: Blocks) -> Answers:
    """The same of blocks that come with their labels; probabilities are kept while they are few."""
    parts, numbers = [], 0
    for labels, block in blocks:
        numbers += block.size
        parts.append(_judged(labels, block, keep=numbers <= HELD))
    return Answers.joined(parts)


def beside(labels: Labels, blocks: Iterable[Probabilities]) -> Blocks:
    """Blocks of rows, each with its labels."""
    first = 0
    for block in blocks:
        yield labels[first : first + len(block)], block
        first += len(block)


def _rank(labels: Labels, probabilities: Probabilities) -> npt.NDArray[np.int64]:
    """How many classes come before the label: `LossStats.rank`, ties by number."""
    mine = probabilities[np.arange(len(labels)), labels][:, np.newaxis]
    lower = np.arange(probabilities.shape[1]) < labels[:, np.newaxis]
    rank: npt.NDArray[np.int64] = np.sum(
        (probabilities > mine) | ((probabilities == mine) & lower), axis=1
    )
    return rank


def _judged(labels: Labels, probabilities: Probabilities, *, keep: bool) -> Answers:
    mine = probabilities[np.arange(len(labels)), labels]
    smallest = np.finfo(np.float32).tiny
    return Answers(
        labels,
        probabilities.argmax(axis=1),
        probabilities.max(axis=1).astype(np.float64),
        -np.log(np.maximum(mine.astype(np.float64), smallest)),
        _rank(labels, probabilities),
        probabilities if keep else None,
    )


class Tally(NamedTuple):
    """Of each class, the rows that are recognised, that it has, and that are said to be of it."""

    right: npt.NDArray[np.int64]
    true: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]

    @classmethod
    def of(cls, labels: Labels, predictions: Labels, classes: int) -> Tally:
        """From the class of each row, and what was said of it."""
        right = labels[labels == predictions]
        return cls(*(np.bincount(x, minlength=classes) for x in (right, labels, predictions)))

    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have rows."""
        has = self.true > 0
        return float(np.mean(self.right[has] / self.true[has]))

    def macro_f1(self) -> float:
        """The mean F1 of the classes that have rows or are predicted."""
        total = self.true + self.predicted
        counted = total > 0
        return float(np.mean(2 * self.right[counted] / total[counted]))


def confusion_matrix(labels: Labels, predictions: Labels, classes: int) -> npt.NDArray[np.int64]:
    """Counts ``(classes, classes)``: row = true class, column = predicted class."""
    pairs = labels.astype(np.int64) * classes + predictions
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def confused_pairs(labels: Labels, predictions: Labels) -> list[tuple[int, int, int]]:
    """Each pair (true, predicted) that occurs with its rows, the most frequent first."""
    pairs, counts = np.unique(np.stack([labels, predictions]), axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    found = np.concatenate([pairs, counts[np.newaxis]])[:, order].T
    return [(true, predicted, count) for true, predicted, count in found.tolist()]


def reliability(
    right: npt.NDArray[np.bool_], confidence: npt.NDArray[np.float64], bins: int = 15
) -> Bins:
    """Confidence and accuracy in equal-width bins of the winning probability; 0 in empty bins."""
    which = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    count = np.bincount(which, minlength=bins)
    size = np.maximum(count, 1)
    return Bins(
        count,
        np.bincount(which, confidence, minlength=bins) / size,
        np.bincount(which, right.astype(np.float64), minlength=bins) / size,
    )


def expected_calibration_error(
    right: npt.NDArray[np.bool_], confidence: npt.NDArray[np.float64], bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over the bins, weighted by their rows.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599.
    """
    diagram = reliability(right, confidence, bins)
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

    ``intervals`` are of 95 %: Wilson's for the accuracies, which are shares of rows, and for the
    other scores 200 to 1000 resamples of the rows (percentile bootstrap). A balanced accuracy and a
    macro-F1 are means over the classes that have rows; the area under the ROC curve is that of each
    class against the rest, meant over those that have rows and are not all, and null where
    rows × classes are more than 64 million. Of more than 1000 classes those are told that have rows
    or are predicted.
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
    """How a model does on rows it has not seen."""

    scores: Scores
    answers: Answers
    classes: tuple[str, ...]  # all that the model has


def examine(
    model: Classifier, features: Matrix, labels: Labels, majority: Majority, seed: int = 0
) -> Examination:
    """Scores a model on encoded rows."""
    return examined(judge(labels, model.blocks(features)), majority, seed)


def examined(answers: Answers, majority: Majority, seed: int = 0) -> Examination:
    """Scores what a model said."""
    classes = majority.classes
    return Examination(score(answers, classes, majority, seed), answers, classes)


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


def score(answers: Answers, classes: Sequence[str], majority: Majority, seed: int = 0) -> Scores:
    """All numbers of one part."""
    labels, right = answers.labels, answers.right
    tally = Tally.of(labels, answers.predictions, len(classes))
    return Scores(
        rows=len(labels),
        log_loss=float(answers.losses.mean()),
        accuracy=float(right.mean()),
        balanced_accuracy=tally.balanced_accuracy(),
        macro_f1=tally.macro_f1(),
        top_5_accuracy=answers.top_accuracy(TOP) if len(classes) > TOP else None,
        roc_auc=_roc_auc(labels, answers.probabilities),
        calibration_error=expected_calibration_error(right, answers.confidence),
        intervals=_intervals(answers, len(classes), seed),
        baseline=majority.baseline(labels),
        classes=tuple(
            _per_class(name, *of)
            for name, *of in zip(classes, *tally, strict=True)
            if len(classes) <= MOST_CLASSES or of[1] or of[2]
        ),
    )


def _per_class(name: str, right: int, true: int, predicted: int) -> PerClass:
    return PerClass(
        name=name,
        rows=int(true),
        precision=float(right / predicted) if predicted else None,
        recall=float(right / true) if true else None,
        f1=float(2 * right / (true + predicted)) if true else None,
    )


def _roc_auc(labels: Labels, probabilities: Probabilities | None) -> float | None:
    if probabilities is None:
        return None
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


def wilson(share: float, rows: int) -> tuple[float, float]:
    """Between which shares the true one lies, with 95 %; never of width 0.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 22,
    1927.
    """
    z = CONFIDENT
    total = rows + z * z
    middle = (share * rows + z * z / 2) / total
    half = z / total * np.sqrt(share * (1 - share) * rows + z * z / 4)
    return float(min(share, middle - half)), float(max(share, middle + half))


def _intervals(answers: Answers, classes: int, seed: int) -> dict[str, tuple[float, float]]:
    labels, predictions, rows = answers.labels, answers.predictions, len(answers.labels)
    found = {"accuracy": wilson(float(answers.right.mean()), rows)}
    if classes > TOP:
        found["top_5_accuracy"] = wilson(answers.top_accuracy(TOP), rows)
    times = int(np.clip(MOST_DRAWS // max(rows, classes), 200, 1000))
    random = np.random.default_rng(seed)
    drawn = np.empty((times, 3))
    for values in drawn:
        chosen = random.integers(0, rows, rows)
        tally = Tally.of(labels[chosen], predictions[chosen], classes)
        loss = answers.losses[chosen].mean()
        values[:] = loss, tally.balanced_accuracy(), tally.macro_f1()
    bounds = np.percentile(drawn, [2.5, 97.5], axis=0).T.tolist()
    # Means over many classes are not: a resample lacks those that have one row or two.
    resampled = ("log_loss", "balanced_accuracy", "macro_f1")[: 3 if classes <= MOST_CLASSES else 1]
    return found | {name: (low, high) for name, (low, high) in zip(resampled, bounds, strict=False)}


def write(folder: Path, examination: Examination, prefix: str = "") -> None:
    """``scores.json`` and ``confusion.csv``: rows are true classes, columns predictions.

    Of more than `MOST_CLASSES` classes it has a line for each pair that occurs.
    """
    text = examination.scores.model_dump_json(indent=2)
    write_file(folder / f"{prefix}scores.json", text.encode())
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    labels, predictions = examination.answers.labels, examination.answers.predictions
    classes = examination.classes
    if len(classes) > MOST_CLASSES:
        writer.writerow(["true", "predicted", "rows"])
        pairs = confused_pairs(labels, predictions)
        writer.writerows([classes[true], classes[said], rows] for true, said, rows in pairs)
    else:
        matrix = confusion_matrix(labels, predictions, len(classes)).tolist()
        writer.writerow(["true \\ predicted", *classes])
        writer.writerows([name, *row] for name, row in zip(classes, matrix, strict=True))
    write_file(folder / f"{prefix}confusion.csv", out.getvalue().encode())
