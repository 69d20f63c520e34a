"""From the columns of a table to the features of a model; saved with the model as JSON.

A `Columns` is learnt from the training part alone. Statistics and subtraction are in float64, and
only what is standardised becomes float32: an easting of 5,000,003 m keeps its last metre.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.schema import Section

from .table import Table

Features = npt.NDArray[np.float32]  # (rows, features)


class Number(Section):
    """One feature, ``(x − mean) / scale``; ``indicator`` adds one that is 1 where x is missing."""

    kind: Literal["number"] = "number"
    name: str
    mean: float
    scale: float
    indicator: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        return (self.name, f"{self.name} is missing") if self.indicator else (self.name,)


class Category(Section):
    """A feature for each value that the training part has, 1 where a row has it."""

    kind: Literal["category"] = "category"
    name: str
    values: tuple[str, ...]

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(f"{self.name}={value}" for value in self.values)


class Vector(Section):
    """As many features as the vectors are long, each ``(x − mean) / scale``."""

    kind: Literal["vector"] = "vector"
    name: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(f"{self.name}[{i}]" for i in range(len(self.mean)))


Column = Annotated[Number | Category | Vector, Field(discriminator="kind")]


class Encoded(NamedTuple):
    """Features ``(N, D)``, and what the columns had to say about them.

    Attributes:
      features: standardised float32.
      unseen: for each categorical column, in how many rows it has a value that training had not.
    """

    features: Features
    unseen: dict[str, int]


class Columns(Section):
    """The encoder: which columns a model reads, in which order, and how."""

    columns: tuple[Column, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the D features."""
        return tuple(name for column in self.columns for name in column.features)

    def encode(self, table: Table) -> Encoded:
        """The features of some rows.

        Raises:
          InputError: a column is missing or is not what it was in training.
        """
        _check_names(table, [column.name for column in self.columns])
        features = np.empty((table.rows.num_rows, len(self.features)), np.float32)
        unseen, start = {}, 0
        for column in self.columns:
            stop = start + len(column.features)
            values = table.rows[column.name]
            match column:
                case Number():
                    _encode_number(column, numbers(values), features[:, start:stop])
                case Vector():
                    wide = vectors(values)
                    features[:, start:stop] = (wide - column.mean) / column.scale
                case Category():
                    unseen[column.name] = _encode_category(
                        column, values, features[:, start:stop]
                    )
            start = stop
        return Encoded(features, unseen)


def fit(table: Table, standardize: str) -> Columns:
    """Learns the encoder from the rows of the training part."""
    columns = tuple(
        _fit_column(name, table.rows[name], standardize) for name in table.rows.column_names
    )
    return Columns(columns=_shared_scale(columns, table) if standardize == "global" else columns)


def numbers(values: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """A column of numbers; NaN where it is null."""
    return values.cast(pa.float64()).to_numpy(zero_copy_only=False)


def vectors(values: pa.ChunkedArray) -> npt.NDArray[np.generic]:
    """A column of vectors of one length, ``(N, length)``."""
    whole = values.combine_chunks()
    return whole.flatten().to_numpy(zero_copy_only=False).reshape(len(whole), -1)


def _fit_column(name: str, values: pa.ChunkedArray, standardize: str) -> Column:
    if pa.types.is_fixed_size_list(values.type):
        wide = vectors(values).astype(np.float64)
        mean, scale = wide.mean(axis=0), wide.std(axis=0)
        if standardize != "feature":
            mean, scale = np.zeros_like(mean), np.ones_like(scale)
        scale = np.where(scale > 0, scale, 1.0)
        return Vector(name=name, mean=tuple(mean.tolist()), scale=tuple(scale.tolist()))
    if pa.types.is_floating(values.type) or pa.types.is_integer(values.type):
        known = numbers(values)
        known = known[~np.isnan(known)]
        if standardize != "feature":
            return Number(name=name, mean=0.0, scale=1.0)
        return Number(name=name, mean=float(known.mean()), scale=float(known.std()) or 1.0)
    seen = sorted(value.as_py() for value in values.unique() if value.is_valid)
    return Category(name=name, values=tuple(seen))


def _shared_scale(columns: Sequence[Column], table: Table) -> tuple[Column, ...]:
    """One mean and one scale for all numbers, which keeps the relative brightness of pixels."""
    count, total, squares = 0, 0.0, 0.0
    for block in _numeric(columns, table):
        count, total, squares = count + block.size, total + block.sum(), squares + (block**2).sum()
    mean = total / count
    scale = math.sqrt(max(squares / count - mean**2, 0.0)) or 1.0
    return tuple(_rescaled(column, mean, scale) for column in columns)


def _numeric(columns: Sequence[Column], table: Table) -> Iterator[npt.NDArray[np.float64]]:
    for column in columns:
        if isinstance(column, Number):
            yield numbers(table.rows[column.name])
        elif isinstance(column, Vector):
            yield vectors(table.rows[column.name]).astype(np.float64)


def _rescaled(column: Column, mean: float, scale: float) -> Column:
    if isinstance(column, Number):
        return column.model_copy(update={"mean": mean, "scale": scale})
    if isinstance(column, Vector):
        width = len(column.mean)
        return column.model_copy(update={"mean": (mean,) * width, "scale": (scale,) * width})
    return column


def _encode_number(column: Number, values: npt.NDArray[np.float64], out: Features) -> None:
    missing = np.isnan(values)
    out[:, 0] = np.where(missing, 0, (values - column.mean) / column.scale)
    if column.indicator:
        out[:, 1] = missing


def _encode_category(column: Category, values: pa.ChunkedArray, out: Features) -> int:
    known = values.cast(pa.string()).index_in(pa.array(column.values, pa.string()))
    codes = known.fill_null(-1).to_numpy()
    out[:] = codes[:, np.newaxis] == np.arange(len(column.values))
    return int(np.sum(codes < 0))


def _check_names(table: Table, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in table.rows.column_names]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{table.origin}: the model was trained with a column '{missing[0]}'{more}, "
            f"which the header lacks"
        )
