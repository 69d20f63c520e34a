"""From the column of the class to numbers, and the names of the classes in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jaxsoftmax.training.errors import InputError

from . import values
from .survey import MOST_LEVELS, plain
from .table import Table

Labels = npt.NDArray[np.int32]  # (rows,), indices into the classes; −1 where there is none

MANY = 100  # numbers that are different: more look like a quantity
NAMED = 8


class Numbered(NamedTuple):
    """Labels as indices into the names of their classes."""

    labels: Labels
    classes: tuple[str, ...]


def as_text(table: Table, name: str) -> pa.ChunkedArray:
    """Labels of any kind as text: 1.0 is 1, True is true, bytes are UTF-8; NaN and ∞ are null."""
    column = plain(table.rows[name])
    types = pa.types
    if types.is_nested(column.type):
        raise InputError(
            f"{table.origin}: '{name}' must hold one number or text for each row, got {column.type}"
        )
    if types.is_floating(column.type):
        column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
        numbers = column.to_numpy()
        if np.all((numbers == np.round(numbers)) | np.isnan(numbers)) and np.all(
            np.nan_to_num(np.abs(numbers)) < 2**53
        ):
            column = column.cast(pa.int64())
    return column.cast(pa.string())


def missing_rows(text: pa.ChunkedArray, missing_values: Sequence[str]) -> values.Mask:
    """Where there is no label."""
    absent: values.Mask = values.blank(text, tuple(missing_values)).is_null().to_numpy()
    return absent


def number(
    text: pa.ChunkedArray,
    missing_values: Sequence[str],
    origin: str,
    name: str,
    *,
    many: bool,
    known: Sequence[str] | None = None,
) -> Numbered:
    """Numbers the classes: as they are known, else numbers by value, words by alphabet.

    Raises:
      InputError: there are too few classes, or so many numbers that they look like a quantity.
    """
    words = values.blank(text, tuple(missing_values))
    codes = words.dictionary_encode().combine_chunks()
    names = codes.dictionary.to_pylist()
    merged, order = _merged(names)
    if len(order) < 2:
        raise InputError(
            f"{origin}: a classifier needs at least 2 classes, '{name}' has {len(order)}"
        )
    if known is not None:
        order = list(known)
    elif not many and _quantity(order, len(text)):
        raise InputError(
            f"{origin}: '{name}' looks like a quantity: {len(order)} different {_kind(order)} in "
            f"{len(text)} rows, and a classifier would learn each as a class of its own; "
            f"write [data] many_classes = true if they are classes"
        )
    elif not many and MOST_LEVELS < len(order) == len(words) - words.null_count:
        raise InputError(
            f"{origin}: '{name}' has another value in each row, as '{order[0]}', and a class needs "
            f"rows to learn from; name the column of the class in [data] label"
        )
    place = {label: i for i, label in enumerate(order)}
    table = np.array([place[merged[name]] for name in names] + [-1], np.int32)
    indices = pc.fill_null(codes.indices, len(names)).to_numpy(zero_copy_only=False)
    return Numbered(table[indices], tuple(order))


def encode(text: pa.ChunkedArray, classes: Sequence[str]) -> Labels:
    """Labels of other rows, as indices into known classes; −1 for all else."""
    words = pc.utf8_trim_whitespace(text)
    merged, _ = _merged([word for word in pc.unique(words).to_pylist() if word is not None])
    place = {label: i for i, label in enumerate(classes)}
    codes = words.dictionary_encode().combine_chunks()
    table = np.array(
        [place.get(word, place.get(merged[word], -1)) for word in codes.dictionary.to_pylist()]
        + [-1],
        np.int32,
    )
    indices = pc.fill_null(codes.indices, len(codes.dictionary)).to_numpy(zero_copy_only=False)
    found: Labels = table[indices]
    return found


def lookalikes(classes: Sequence[str]) -> list[str]:
    """A note on classes that may be one."""
    pairs = values.alike(classes)
    more = " …" if len(pairs) > NAMED else ""
    return [f"classes that may be one: {', '.join(pairs[:NAMED])}{more}"] * bool(pairs)


def _merged(names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """How each text is called as a class, and the classes in order."""
    as_numbers = {name: values.as_number(name) for name in names}
    numbers = [number for number in as_numbers.values() if number is not None]
    if len(numbers) < len(names):
        return {name: name for name in names}, sorted(names)
    if all(number == int(number) and abs(number) < 2**53 for number in numbers):
        called = {name: str(int(as_numbers[name] or 0)) for name in names}
        texts = {name.partition(".")[0] for name in names}
        if len(set(called.values())) == len(texts):  # 01 and 1 are two texts: leave them
            return called, sorted(set(called.values()), key=int)
    return {name: name for name in names}, sorted(names, key=lambda name: (as_numbers[name], name))


def _quantity(classes: Sequence[str], rows: int) -> bool:
    numbers = [values.as_number(name) for name in classes]
    if any(number is None for number in numbers):
        return _kind(classes) != "words" and len(classes) > max(MOST_LEVELS, rows / 10)
    fractions = sum(number != int(number or 0) for number in numbers)
    return len(classes) > MANY or (fractions > len(classes) / 2 and len(classes) > rows / 10)


def _kind(classes: Sequence[str]) -> str:
    """What most of them are, in the plural."""
    text = pa.chunked_array([classes], pa.string())
    most = 0.9 * len(classes)
    if np.sum(values.dates(text)) > most:
        return "dates"
    numbers = np.array([values.as_number(name) is not None for name in classes])
    return "numbers" if np.sum(numbers | values.dressed_numbers(text)) > most else "words"


def required(
    table: Table, missing: values.Mask, name: str, missing_values: Sequence[str], count: int
) -> InputError:
    """The sentence for rows without a label; the first of them is in this table."""
    row = int(np.argmax(missing))
    value = table.rows[name][row].as_py()
    told = "is empty" if value is None or not str(value).strip() else f"says '{value}'"
    hint = ", ".join(repr(v) for v in missing_values[:NAMED])
    return InputError(
        f"{table.origin}: {table.where(row)}: the label '{name}' {told} ({count} such rows); "
        f'write [data] missing_labels = "drop_row" to leave them out'
        + (f", or [columns] missing_values without it (now {hint})" if str(value or "") else "")
    )
