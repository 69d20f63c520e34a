"""From the columns of a table to the features of a model; saved with the model as JSON.

A `Columns` is learnt from the training part alone. Statistics and subtraction are in float64, and
only what is standardised becomes float32: an easting of 5,000,003 m keeps its last metre.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from jaxsoftmax.training.config.keys import ColumnsConfig
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.schema import Section

from . import values
from .survey import Columned, Kind, decimal_of, fixed_vectors, kind_of, plain
from .table import Table

Features = npt.NDArray[np.float32]  # (rows, features)
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SMALLEST = 1e-150  # a deviation, whose square has all its digits
MISSING = "(missing)"  # the value of a category that a row does not have


class Number(Section):
    """One feature, ``(x − mean) / scale``; ``indicator`` adds one that is 1 where x is missing."""

    kind: Literal["number"] = "number"
    name: str
    mean: float
    scale: float
    indicator: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """Their names."""
        return (self.name, f"{self.name} is missing") if self.indicator else (self.name,)


class Category(Section):
    """A feature for each value that the training part has, 1 where a row has it."""

    kind: Literal["category"] = "category"
    name: str
    values: tuple[str, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(f"{self.name}={value}" for value in self.values)


class Vector(Section):
    """As many features as the vectors are long, each ``(x − mean) / scale``."""

    kind: Literal["vector"] = "vector"
    name: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(f"{self.name}[{i}]" for i in range(len(self.mean)))


Column = Annotated[Number | Category | Vector, Field(discriminator="kind")]


class Encoded(NamedTuple):
    """Features ``(N, D)``, and what the columns had to say about them.

    Attributes:
      features: standardised float32.
      unseen: for each categorical column, in how many rows it has a value that training had not.
      bad: rows that hold something other than in training, and the words for the first of them.
    """

    features: Features
    unseen: dict[str, int]
    bad: Mask
    complaint: str | None


class Columns(Section):
    """The encoder: which columns a model reads, in which order, and how."""

    columns: tuple[Column, ...]
    unit_length: bool = False
    missing_values: tuple[str, ...] = ()

    @functools.cached_property
    def features(self) -> tuple[str, ...]:
        """The names of the D features."""
        return tuple(name for column in self.columns for name in column.features)

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        return [column.name for column in self.columns]

    def encode(self, table: Table) -> Encoded:
        """The features of some rows; rows that cannot be read are NaN, and are told.

        Raises:
          InputError: a column is missing, or is another kind of column.
        """
        table = self._renamed(table)
        rows = table.rows.num_rows
        features = np.empty((rows, len(self.features)), np.float32)
        unseen, bad, complaint = {}, np.zeros(rows, bool), None
        start = 0
        for column in self.columns:
            stop = start + len(column.features)
            out, given = features[:, start:stop], plain(table.rows[column.name])
            match column:
                case Number():
                    numbers, wrong = _read_numbers(column.name, given, table, self.missing_values)
                    _encode_number(column, numbers, out)
                case Vector():
                    wide, wrong = _read_vectors(column, given, table)
                    np.divide(wide - np.array(column.mean), column.scale, out=wide)
                    out[:] = wide
                case Category():
                    wrong = np.zeros(rows, bool)
                    unseen[column.name] = _encode_category(column, given, out, self.missing_values)
            if wrong.any() and complaint is None:
                row = int(np.argmax(wrong))
                what = given[row].as_py() if not isinstance(column, Vector) else "such a vector"
                complaint = (
                    f"{table.origin}: {table.where(row)}, column '{column.name}': expected "
                    f"{'finite numbers' if isinstance(column, Vector) else 'a finite number'}, "
                    f"got '{str(what)[:80]}'"
                )
            bad |= wrong
            start = stop
        if self.unit_length:
            lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
            features /= np.where(lengths > 0, lengths, 1)
        overflow = ~np.isfinite(features).all(axis=1) & ~bad
        if overflow.any() and complaint is None:
            row = int(np.argmax(overflow))
            name = self.features[int(np.argmax(~np.isfinite(features[row])))]
            complaint = (
                f"{table.origin}: {table.where(row)}: '{name}' does not fit float32 "
                f"as it is; standardise it"
            )
        return Encoded(features, unseen, bad | overflow, complaint)

    def _renamed(self, table: Table) -> Table:
        """A matrix without names has its columns in the order of the model's."""
        names, have = self.names, table.rows.column_names
        missing = [name for name in names if name not in have]
        if not missing:
            return table
        if have == ["features"] and len(self.features) == len(names):
            wide = vectors(fixed_vectors(table.rows["features"]))
            if wide.shape[1] == len(names):
                return table._replace(rows=pa.table(dict(zip(names, wide.T, strict=True))))
            raise InputError(
                f"{table.origin}: the model was trained with {len(names)} features, "
                f"the rows have {wide.shape[1]}"
            )
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{table.origin}: the model was trained with a column '{missing[0]}'{more}, "
            f"which this has not; it has {', '.join(map(repr, have[:8]))}"
        )


def fit(tables: Iterable[tuple[Table, Mask]], columned: Columned, config: ColumnsConfig) -> Columns:
    """Learns the encoder.

    Args:
      tables: typed tables (`survey.typed`), each with a mask of the rows of the training part.
      columned: what the columns are.
      config: what the user wants of them.
    """
    seen = {
        name: _Seen(Moments.of(columned.vectors.get(name, 1)), set(), False)
        for name in columned.kinds
    }
    for table, train in tables:
        keep = pa.array(train)
        for name, kind in columned.kinds.items():
            seen[name] = _and_rows(seen[name], kind, table.rows[name].filter(keep))
    numeric = [seen[name].moments for name, kind in columned.kinds.items() if kind != "text"]
    shared = Moments.pooled(numeric) if config.standardize == "global" else None
    return Columns(
        columns=tuple(
            _column(name, kind, seen[name], shared, config) for name, kind in columned.kinds.items()
        ),
        unit_length=config.unit_length,
        missing_values=config.missing_values,
    )


class _Seen(NamedTuple):
    """What the training part holds in one column."""

    moments: Moments
    values: set[str]
    missing: bool


def _and_rows(seen: _Seen, kind: Kind, column: pa.ChunkedArray) -> _Seen:
    if kind == "text":
        new = {MISSING if value is None else value for value in pc.unique(column).to_pylist()}
        return seen._replace(values=seen.values | new)
    if kind == "vector":
        wide = vectors(column).astype(np.float64)
        return seen._replace(moments=seen.moments.and_rows(wide))
    numbers = column.to_numpy()
    known = numbers[~np.isnan(numbers)]
    moments = seen.moments.and_rows(known[:, np.newaxis])
    return seen._replace(moments=moments, missing=seen.missing or len(known) < len(numbers))


def _column(
    name: str, kind: Kind, seen: _Seen, shared: Moments | None, config: ColumnsConfig
) -> Column:
    if kind == "text":
        return Category(name=name, values=tuple(sorted(seen.values)))
    moments = shared or seen.moments
    mean = np.broadcast_to(moments.mean, seen.moments.mean.shape)
    scale = np.broadcast_to(moments.deviation(), mean.shape)
    if config.standardize == "none":
        mean = mean if seen.missing else np.zeros_like(mean)  # the mean stands for what is missing
        scale = np.ones_like(mean)
    if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
        raise InputError(f"column '{name}' has numbers too large to standardise")
    if kind == "vector":
        return Vector(name=name, mean=tuple(mean.tolist()), scale=tuple(scale.tolist()))
    return Number(
        name=name,
        mean=float(mean[0]),
        scale=float(scale[0]),
        indicator=seen.missing and config.missing == "mean",
    )


class Moments(NamedTuple):
    """Number of rows, mean, sum of squared deviations and range, which rows can be added to.

    Source: Chan, Golub & LeVeque, Updating formulae and a pairwise algorithm for computing sample
    variances, 1979.
    """

    rows: float
    mean: Floats  # (width,)
    squares: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, width: int) -> Moments:
        """Those of no rows."""
        return cls(0, *(np.full(width, value) for value in (0.0, 0.0, np.inf, -np.inf)))

    def and_rows(self, rows: Floats) -> Moments:
        """Those of these rows too."""
        if not len(rows):
            return self
        with np.errstate(over="ignore", invalid="ignore"):  # told when the column is fitted
            mean = rows.mean(axis=0)
            deviations = rows - mean
            squares = np.sum(deviations * deviations, axis=0)
        return self.merged(Moments(len(rows), mean, squares, rows.min(axis=0), rows.max(axis=0)))

    def merged(self, other: Moments) -> Moments:
        """Those of the rows of both."""
        if not self.rows:
            return other
        count = self.rows + other.rows
        share = other.rows / count
        with np.errstate(over="ignore", invalid="ignore"):
            step = other.mean - self.mean
            squares = self.squares + other.squares + step * step * self.rows * share
        return Moments(
            count,
            self.mean + step * share,
            squares,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @classmethod
    def pooled(cls, all_: Iterable[Moments]) -> Moments:
        """Those of all numbers in all columns."""
        single = (
            Moments(m.rows, *(part[i : i + 1] for part in m[1:]))
            for m in all_
            for i in range(len(m.mean))
        )
        return functools.reduce(Moments.merged, single, cls.of(1))

    def deviation(self) -> Floats:
        """The standard deviation; the range where squares are too small, and 1 where it is 0."""
        deviation = np.sqrt(self.squares / max(self.rows, 1))
        with np.errstate(over="ignore"):
            spread = self.high - self.low
        return np.where(spread > 0, np.where(deviation < SMALLEST, spread, deviation), 1.0)


def vectors(column: pa.ChunkedArray) -> npt.NDArray[np.generic]:
    """A column of vectors of one length, ``(N, length)``."""
    width = column.type.list_size
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    flat = chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0), *chunks])
    return flat.reshape(-1, width)


def _read_numbers(
    name: str, column: pa.ChunkedArray, table: Table, missing_values: Sequence[str]
) -> tuple[Floats, Mask]:
    types = pa.types
    if types.is_string(column.type) or types.is_large_string(column.type):
        parsed = values.parse(column, tuple(missing_values), decimal_of(table))
        return parsed.numbers, parsed.bad
    if kind_of(column.type) == "number" or types.is_null(column.type):
        numbers = column.cast(pa.float64(), safe=False).to_numpy()
        return np.where(np.isinf(numbers), np.nan, numbers), np.isinf(numbers)
    raise InputError(
        f"{table.origin}: column '{name}' held numbers in training and holds {column.type} here"
    )


def _read_vectors(column: Vector, given: pa.ChunkedArray, table: Table) -> tuple[Floats, Mask]:
    types, width = pa.types, len(column.mean)
    if types.is_fixed_size_list(given.type) and given.type.list_size == width:
        wide = vectors(given).astype(np.float64)
    elif types.is_list(given.type) or types.is_large_list(given.type):
        fits = pc.fill_null(pc.equal(pc.list_value_length(given), width), False).to_numpy()
        wide = np.full((len(given), width), np.nan)
        whole = pc.list_flatten(given.filter(pa.array(fits))).cast(pa.float64()).to_numpy()
        wide[fits] = whole.reshape(-1, width)
    else:
        raise InputError(
            f"{table.origin}: column '{column.name}' held vectors of length {width} in training "
            f"and holds {given.type} here"
        )
    return wide, ~np.isfinite(wide).all(axis=1)


def _encode_number(column: Number, numbers: Floats, out: Features) -> None:
    missing = np.isnan(numbers)
    with np.errstate(over="ignore"):
        out[:, 0] = np.where(missing, 0, (numbers - column.mean) / column.scale)
    if column.indicator:
        out[:, 1] = missing


def _encode_category(
    column: Category, given: pa.ChunkedArray, out: Features, missing_values: Sequence[str]
) -> int:
    text = pc.fill_null(values.blank(given, tuple(missing_values)), MISSING)
    codes = pc.index_in(text, pa.array(column.values, pa.string()))
    codes = pc.fill_null(codes, -1).to_numpy()
    out[:] = codes[:, np.newaxis] == np.arange(len(column.values))
    return int(np.sum(codes < 0))
