"""A `Dataset`: the rows of a config as arrays, split, encoded, and recognisable again."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.errors import InputError

from . import columns as encoder
from . import sources
from .columns import Columns, Features
from .readers import RawLabels
from .splits import Labels, split_rows


class Part(NamedTuple):
    """Some rows of a `Dataset`, as views of its arrays."""

    features: Features
    labels: Labels
    weights: npt.NDArray[np.float32]


class Spans(NamedTuple):
    """Where the three parts lie in the arrays of a `Dataset`."""

    train: slice
    validation: slice
    test: slice


class Dataset(NamedTuple):
    """All rows that a run uses: first those of the training part, then validation, then test.

    Attributes:
      features: ``(N, D)`` standardised float32, in memory or memory-mapped.
      labels: ``(N,)`` int32, indices into ``classes``.
      weights: ``(N,)`` float32, not negative.
      rows: ``(N,)`` the number of each row in its source.
      classes: the names of the C classes, in order.
      columns: how the features were made.
      parts: where train, validation and test lie.
      fingerprint: a SHA-256 of the values read, and of the parts.
    """

    features: Features
    labels: Labels
    weights: npt.NDArray[np.float32]
    rows: npt.NDArray[np.intp]
    classes: tuple[str, ...]
    columns: Columns
    parts: Spans
    fingerprint: str

    def part(self, name: str) -> Part:
        """Train, validation or test."""
        span = getattr(self.parts, name)
        return Part(self.features[span], self.labels[span], self.weights[span])


def prepare(config: RunConfig) -> Dataset:
    """Reads, splits and encodes the data that a config names."""
    table, raw = sources.load(config.data)
    labels, classes = number_classes(table.origin, raw)
    parts = split_rows(labels, classes, config.split, config.seed)
    columns = encoder.fit(
        table._replace(rows=table.rows.take(parts.train)), config.columns.standardize
    )
    rows = np.concatenate(parts)
    features = columns.encode(table._replace(rows=table.rows.take(rows))).features
    first, second = len(parts.train), len(parts.train) + len(parts.validation)
    labels = labels[rows]
    return Dataset(
        features,
        labels,
        np.ones(len(rows), np.float32),
        rows,
        classes,
        columns,
        Spans(slice(0, first), slice(first, second), slice(second, len(rows))),
        _fingerprint(features, labels),
    )


def number_classes(origin: str, raw: RawLabels) -> tuple[Labels, tuple[str, ...]]:
    """Numbers the classes: integers by value, words by alphabet."""
    values, labels = np.unique(raw, return_inverse=True)
    if len(values) < 2:
        raise InputError(f"{origin}: a classifier needs at least 2 classes, found {len(values)}")
    return labels.astype(np.int32), tuple(str(value) for value in values)


def _fingerprint(features: Features, labels: Labels) -> str:
    digest = hashlib.sha256(features.tobytes())
    digest.update(labels.tobytes())
    return digest.hexdigest()
