"""Which row belongs to which part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from jaxsoftmax.training.config.keys import Split
from jaxsoftmax.training.errors import InputError

Labels = npt.NDArray[np.int32]  # (rows,), indices into the classes
RowNumbers = npt.NDArray[np.intp]


class Parts(NamedTuple):
    """The row numbers of three disjoint parts."""

    train: RowNumbers
    validation: RowNumbers
    test: RowNumbers


def split_rows(labels: Labels, classes: Sequence[str], split: Split, seed: int) -> Parts:
    """Splits into train, validation and test, stratified by class and decided by ``seed`` alone."""
    rows = np.arange(len(labels))
    sizes = {
        "test": round(split.test * len(rows)),
        "validation": round(split.validation * len(rows)),
    }
    _check_split(labels, classes, sizes | {"train": len(rows) - sum(sizes.values())})
    rest, test = train_test_split(rows, test_size=sizes["test"], stratify=labels, random_state=seed)
    train, validation = train_test_split(
        rest, test_size=sizes["validation"], stratify=labels[rest], random_state=seed
    )
    return Parts(train, validation, test)


def _check_split(labels: Labels, classes: Sequence[str], sizes: dict[str, int]) -> None:
    counts = np.bincount(labels)
    rarest = int(np.argmin(counts))
    if counts[rarest] < 3:
        raise InputError(
            f"class '{classes[rarest]}' has {counts[rarest]} row(s); "
            f"a stratified split into train, validation and test needs at least 3 of each class"
        )
    for part, size in sizes.items():
        if size < len(classes):
            raise InputError(
                f"[split] {part} would get {size} rows, "
                f"fewer than the {len(classes)} classes; give it a larger share"
            )
