"""Which row belongs to which part."""

from __future__ import annotations

import hashlib
import itertools
import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.config.keys import Split
from jaxsoftmax.training.errors import InputError

from .labels import Labels

Assignment = npt.NDArray[np.int8]  # (rows,): an index into PARTS, or OUT

PARTS = ("train", "validation", "test")
OUT = -1  # of a row that is not used
NAMES = {
    "train": 0,
    "training": 0,
    "0": 0,
    "validation": 1,
    "valid": 1,
    "val": 1,
    "dev": 1,
    "1": 1,
    "test": 2,
    "testing": 2,
    "eval": 2,
    "2": 2,
}
FEWEST = 3  # rows of a class that can be split
_ZONE = re.compile(r":\d\d(\.\d+)?\s?(Z|[+-]\d\d:?(\d\d)?)$")
LEAST = 1e-30  # the sum of the weights of a part


class Assigned(NamedTuple):
    """The part of each row, and what has to be said about it."""

    parts: Assignment
    notes: tuple[str, ...]


def by_ratio(labels: Labels, classes: Sequence[str], split: Split, seed: int) -> Assigned:
    """Each class in the same proportions; classes too rare to be split train."""
    random = np.random.default_rng(seed)
    parts = np.full(len(labels), OUT, np.int8)
    rare = []
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    for number, rows in zip(*_runs(labels[order], order), strict=True):
        if number < 0:
            continue
        test, validation = (_share(share, len(rows)) for share in (split.test, split.validation))
        if len(rows) < FEWEST:
            test = validation = 0
            rare.append(classes[number])
        parts[rows[:test]] = 2
        parts[rows[test : test + validation]] = 1
        parts[rows[test + validation :]] = 0
    if not rare:
        return Assigned(parts, ())
    told = ", ".join(f"'{name}'" for name in rare[:8]) + (" …" if len(rare) > 8 else "")
    return Assigned(parts, (f"too rare to split, all rows train: {told}",))


def by_column(values: pa.ChunkedArray, origin: str, name: str) -> Assigned:
    """What a column says."""
    words = values.cast(pa.string()).to_pylist()
    parts = np.array([NAMES.get((word or "").strip().lower(), OUT) for word in words], np.int8)
    if (parts == OUT).any():
        word = words[int(np.argmax(parts == OUT))]
        raise InputError(
            f"{origin}: the column '{name}' says '{word}'; expected train, validation or test"
        )
    return Assigned(parts, ())


def by_group(values: pa.ChunkedArray, split: Split, seed: int) -> Assigned:
    """Whole groups, in random order, until each part has its share of the rows."""
    _, codes = np.unique(np.array(values.cast(pa.string()).to_pylist(), str), return_inverse=True)
    sizes = np.bincount(codes)
    order = np.random.default_rng(seed).permutation(len(sizes))
    middle = (np.cumsum(sizes[order]) - sizes[order] / 2) / len(codes)
    part_of = np.empty(len(sizes), np.int8)
    part_of[order] = _part_at(1 - middle, split)
    return Assigned(part_of[codes], ())


def by_time(values: pa.ChunkedArray, split: Split, origin: str, name: str) -> Assigned:
    """The last rows test, those before them validate."""
    if values.null_count:
        raise InputError(f"{origin}: the column '{name}' has no value in {values.null_count} rows")
    keys = values.to_numpy(zero_copy_only=False)
    if pa.types.is_string(values.type):
        keys = _times(keys, origin, name)
    if (nothing := int(np.sum(keys != keys))) > 0:  # NaN, and the time that is none
        raise InputError(f"{origin}: the column '{name}' has no value in {nothing} rows")
    ranks = np.searchsorted(np.sort(keys), keys, side="left")  # equal times stay together
    return Assigned(_part_at(1 - (ranks + 0.5) / len(keys), split), ())


def by_hash(values: pa.ChunkedArray, split: Split) -> Assigned:
    """A function of the key alone."""
    words = values.cast(pa.string()).to_pylist()
    digests = (hashlib.sha256(str(word).encode()).digest()[:8] for word in words)
    numbers = np.array([int.from_bytes(digest, "big") / 2**64 for digest in digests])
    return Assigned(_part_at(numbers, split), ())


def by_fold(
    parts: Assignment,
    labels: Labels,
    values: pa.ChunkedArray | None,
    config: RunConfig,
    fold: tuple[int, int],
) -> Assignment:
    """One of k folds tests, groups whole; the others are split into train and validation."""
    from sklearn.model_selection import GroupKFold, StratifiedKFold

    which, count = fold
    used = np.flatnonzero(labels >= 0)
    split, seed = config.split, config.seed
    if split.column is not None or split.time is not None:
        raise InputError("[split] column and time decide the test rows; folds would not")
    if values is not None:
        keys = np.array(values.cast(pa.string()).to_pylist(), str)[used]
        folds = GroupKFold(count, shuffle=True, random_state=seed).split(used, groups=keys)
    else:
        rare = int(np.bincount(labels[used]).max())
        if rare < count:
            raise InputError(f"{count} folds need {count} rows of some class, the most are {rare}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a class rarer than the folds is in some of them
            stratified = StratifiedKFold(count, shuffle=True, random_state=seed)
            folds = list(stratified.split(used, labels[used]))
    rest, test = next(itertools.islice(folds, which, None))
    new = np.full(len(labels), OUT, np.int8)
    new[used[test]] = 2
    share = split.validation / (split.validation + split.train)
    random = np.random.default_rng((seed, which))
    kept = used[rest]
    new[kept] = (random.random(len(kept)) < share).astype(np.int8)
    return new


def few_shots(parts: Assignment, labels: Labels, shots: int, seed: int) -> Assignment:
    """At most so many rows of each class train, drawn by the seed; the others are left out."""
    train = np.random.default_rng(seed).permutation(np.flatnonzero(parts == 0))
    train = train[np.argsort(labels[train], kind="stable")]
    of_class = labels[train]
    place = np.arange(len(train)) - np.searchsorted(of_class, of_class)
    fewer = parts.copy()
    fewer[train[place >= shots]] = OUT
    return fewer


def check(parts: Assignment, labels: Labels, classes: Sequence[str], origin: str) -> list[str]:
    """What is said of parts that lack a class.

    Raises:
      InputError: a part is empty, or the training part has fewer than two classes.
    """
    notes = []
    for index, part in enumerate(PARTS):
        counts = np.bincount(labels[parts == index], minlength=len(classes))
        if not counts.sum():
            rare = np.bincount(labels[labels >= 0]).max(initial=0) < FEWEST
            why = f": a class is split from {FEWEST} rows on, and none has so many" * int(rare)
            raise InputError(f"{origin}: the {part} part has no rows{why}; see [split]")
        absent = [name for name, count in zip(classes, counts, strict=True) if not count]
        if part == "train" and len(classes) - len(absent) < 2:
            raise InputError(f"{origin}: the train part has rows of one class only; see [split]")
        if absent:
            told = ", ".join(f"'{name}'" for name in absent[:8])
            more = f" and {len(absent) - 8} more" if len(absent) > 8 else ""
            notes.append(f"no {part} rows of: {told}{more}")
    return notes


def check_weights(parts: Assignment, weights: npt.NDArray[np.floating], origin: str) -> None:
    """Refuses weights whose sum means nothing in float32, as that of zeros alone."""
    for index, part in enumerate(PARTS[:2]):
        total = float(np.sum(weights[parts == index], dtype=np.float64))
        if not LEAST < total < 1 / LEAST:
            raise InputError(
                f"{origin}: the weights of the {part} part sum to {total:g}; expected a sum "
                f"between {LEAST:g} and {1 / LEAST:g}: leave [data] weights out, or scale them"
            )


def _share(share: float, rows: int) -> int:
    return max(1, round(share * rows)) if share else 0


def _runs(
    numbers: Labels, order: npt.NDArray[np.intp]
) -> tuple[list[int], list[npt.NDArray[np.intp]]]:
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
    return numbers[starts].tolist(), np.split(order, starts[1:])


def _part_at(quantile: npt.NDArray[np.float64], split: Split) -> Assignment:
    """Test is lowest, then validation, then train."""
    test, validation = quantile < split.test, quantile < split.test + split.validation
    return np.where(test, 2, np.where(validation, 1, 0)).astype(np.int8)


def _times(words: npt.NDArray[np.object_], origin: str, name: str) -> npt.NDArray[np.generic]:
    try:
        return np.array([float(word) for word in words])
    except ValueError:
        pass
    dashed = [word.strip().replace("/", "-") for word in words]
    try:
        if any(map(_ZONE.search, dashed)):
            moments = pa.array(dashed).cast(pa.timestamp("us", "UTC"))
            return np.asarray(moments.to_numpy(zero_copy_only=False))
        return np.array(dashed, "datetime64[us]")
    except ValueError as error:
        raise InputError(
            f"{origin}: the column '{name}' holds neither numbers nor times as in "
            f"2026-11-26 or 2026-11-26 12:30: {error}"
        ) from None
