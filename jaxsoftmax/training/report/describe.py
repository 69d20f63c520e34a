"""What a run is about to learn from, told before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxsoftmax.training.data import Dataset
from jaxsoftmax.training.data.columns import Category, Number, Vector

from .scores import Majority

NAMES = 8  # that are written out
CLASSES = 20


def describe(dataset: Dataset) -> str:
    """Rows, features, classes, baseline and parts, a line each."""
    columns = dataset.columns.columns
    numbers = [c.name for c in columns if isinstance(c, Number)]
    vectors = [f"{c.name} ({len(c.mean)} numbers)" for c in columns if isinstance(c, Vector)]
    encoded = [f"{c.name} ({len(c.values)} values)" for c in columns if isinstance(c, Category)]
    missing = [c.name for c in columns if isinstance(c, Number) and c.indicator]
    size = f"{len(dataset.labels):,} rows, {dataset.features.shape[1]:,} features"
    lines = [f"data    {Path(dataset.origin).name}: {size}, label '{dataset.label}'"]
    for title, names in (
        ("numbers", numbers),
        ("vectors", vectors),
        ("one-hot", encoded),
        ("missing", missing),
        ("dropped", [f"{name} ({why})" for name, why in dataset.dropped.items()]),
    ):
        if names:
            lines.append(f"        {title}  {listed(names)}")
    lines.append(f"        classes  {len(dataset.classes)}: {class_counts(dataset)}")
    lines.append(f"        baseline {baseline(dataset)}")
    train, validation, test = (len(dataset.labels[span]) for span in dataset.parts)
    lines.append(f"        parts    {train:,} train, {validation:,} validation, {test:,} test")
    lines += [f"        note     {note}" for note in dataset.notes]
    return "\n".join(lines)


def listed(names: Sequence[str], most: int = NAMES) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def class_counts(dataset: Dataset) -> str:
    """Each class with its rows, in all parts."""
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    told = [f"{name} {count:,}" for name, count in zip(dataset.classes, counts, strict=True)]
    return listed(told, CLASSES)


def baseline(dataset: Dataset) -> str:
    """The most frequent class's share of the training part, and the entropy of the classes."""
    majority = Majority.of(dataset)
    shares = majority.shares
    entropy = -float(np.sum(shares * np.log(np.where(shares > 0, shares, 1))))
    winner = int(shares.argmax())
    return (
        f"always '{dataset.classes[winner]}': accuracy {shares[winner]:.4f}; "
        f"class frequencies: log-loss {entropy:.4f} nats"
    )
