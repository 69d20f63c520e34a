"""What a run solves, one problem after another: a path of penalties, and then the model.

With ``l2 = "auto"`` each penalty of the path is solved from the solution of the one before, larger
one, on the training rows; its score is the loss on the validation rows. Where these are fewer than
`ENOUGH`, five folds of train and validation take their place, solved side by side by one program.
The last problem has the best penalty and all of these rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.data import Dataset

from .state import Record

Weights = npt.NDArray[np.float32]

ENOUGH = 1000  # validation rows that choose on their own
FOLDS = 5
STRENGTHS = tuple(10.0 ** (k / 2) for k in range(6, -9, -1))  # penalty times rows: 1/C
PATIENCE = 3  # penalties in a row that are no better


def penalties(config: RunConfig, dataset: Dataset) -> tuple[float, ...]:
    """The path, from large to small; empty for a fixed penalty."""
    if config.model.l2 != "auto":
        return ()
    rows = float(dataset.part("train").weights.sum())
    return tuple(strength / rows for strength in STRENGTHS)


def fold_weights(config: RunConfig, dataset: Dataset) -> Weights:
    """``(K, N)`` weights of the train and validation rows in each problem of the path."""
    weights = row_weights(config, dataset)
    train = np.zeros(len(weights), np.float32)
    train[dataset.parts.train] = 1
    if config.model.l2 != "auto" or len(weights) - train.sum() >= ENOUGH:
        return (train * weights)[np.newaxis]
    fold = folds(dataset.labels[: len(weights)], config.seed)
    return np.stack([weights * (fold != k) for k in range(FOLDS)]).astype(np.float32)


def row_weights(config: RunConfig, dataset: Dataset) -> Weights:
    """``(N,)`` weights of the train and validation rows, with those of their classes."""
    stop = dataset.parts.validation.stop
    labels, weights = dataset.labels[:stop], dataset.weights[:stop]
    if config.model.class_weights is None:
        return weights
    counts = np.bincount(labels, weights, minlength=len(dataset.classes))
    share = weights.sum() / (np.count_nonzero(counts) * np.where(counts > 0, counts, 1))
    return (weights * share[labels]).astype(np.float32)


def folds(labels: npt.NDArray[np.int32], seed: int) -> npt.NDArray[np.intp]:
    """A fold for each row, with the classes in proportion."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), np.intp)
    fold[order] = np.arange(len(labels)) % FOLDS
    return fold


def next_stage(path: Sequence[float], records: Sequence[Record]) -> int:
    """The number of the problem after those that are recorded; ``len(path)`` is the last."""
    on_path = [record for record in records if record.stage < len(path)]
    enough = bool(on_path) and stale(on_path) >= PATIENCE
    return len(path) if enough else min(len(on_path), len(path))


def stale(records: Sequence[Record]) -> int:
    """For how many records the validation loss has been above its lowest."""
    return len(records) - 1 - int(np.argmin([record.validation_loss for record in records]))


def best(path: Sequence[float], records: Sequence[Record]) -> Record:
    """The record of the penalty with the lowest validation loss."""
    on_path = [record for record in records if record.stage < len(path)]
    return min(on_path, key=lambda record: record.validation_loss)
