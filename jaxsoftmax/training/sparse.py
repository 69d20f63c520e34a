"""Rows that differ from a common one in few features, kept as these, and dense only in use.

What a file leaves out is 0, and a standardised 0 is −mean / scale, the same in all rows: ``base``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax import Array
from jax.typing import DTypeLike

NUMBERS = 1 << 22  # of dense rows at a time


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SparseRows:
    """A matrix ``(N, D)`` whose rows are ``base`` but for at most m features; of NumPy or of JAX.

    Rows with fewer than m repeat one. Indexing takes rows, and they stay sparse.

    Attributes:
      columns: ``(N, m)``, integers in [0, D).
      values: ``(N, m)``, those of the features in ``columns``.
      base: ``(D,)``, those of all others.
    """

    columns: Any
    values: Any
    base: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the dense matrix."""
        return (*self.columns.shape[:-1], len(self.base))

    @property
    def dtype(self) -> Any:
        """That of the values."""
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        """What is held."""
        return int(self.columns.nbytes + self.values.nbytes + self.base.nbytes)

    def __len__(self) -> int:
        """N."""
        return len(self.columns)

    def __getitem__(self, rows: Any) -> SparseRows:
        """Some rows, by number or slice."""
        return SparseRows(self.columns[rows], self.values[rows], self.base)

    def dense(self) -> Any:
        """All of it; of NumPy where the parts are."""
        if isinstance(self.values, np.ndarray):
            out = np.broadcast_to(self.base, self.shape).copy()
            np.put_along_axis(out, self.columns, self.values, -1)
            return out
        # A row at a time, so that XLA knows that rows on several devices have nothing in common.
        return jax.vmap(lambda at, values: self.base.at[at].set(values))(self.columns, self.values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> npt.NDArray[Any]:
        """Dense, for NumPy."""
        return np.asarray(self.dense(), dtype)

    def __matmul__(self, other: Array) -> Array:
        """The product of the dense matrix."""
        product: Array = self.dense() @ other
        return product

    def astype(self, dtype: DTypeLike, copy: bool = True) -> npt.NDArray[Any]:
        """Dense, in another type."""
        found: npt.NDArray[Any] = self.dense().astype(dtype, copy=copy)
        return found

    def blocks(self) -> Iterator[tuple[slice, SparseRows]]:
        """Some rows at a time, and where they are."""
        step = rows_at_a_time(self.shape[1])
        for first in range(0, len(self), step):
            rows = slice(first, first + step)
            yield rows, self[rows]


Matrix = npt.NDArray[np.float32] | SparseRows  # features (rows, D), as a run holds them


def rows_at_a_time(width: int) -> int:
    """How many rows of so many features are dense at a time."""
    return max(1, NUMBERS // max(1, width))


def of_blocks(
    base: npt.NDArray[Any], blocks: Iterable[tuple[npt.NDArray[np.intp], npt.NDArray[Any]]]
) -> SparseRows:
    """From dense rows, some at a time, each with its place among all."""
    places, counts, columns, values = [], [], [], []
    for where, dense in blocks:
        other = dense != base
        places.append(where)
        counts.append(other.sum(axis=1))
        columns.append(np.nonzero(other)[1].astype(np.int32))
        values.append(dense[other])
    place, count = np.concatenate(places), np.concatenate(counts)
    flat, numbers = np.concatenate(columns), np.concatenate(values)
    width = max(1, int(count.max(initial=0)))
    sparse = SparseRows(
        np.zeros((len(place), width), np.int32),
        np.full((len(place), width), base[0], base.dtype),
        base,
    )
    start = np.cumsum(count) - count
    for first in range(0, len(place), NUMBERS // width + 1):
        part = slice(first, first + NUMBERS // width + 1)
        entry = np.minimum(np.arange(width), np.maximum(count[part, np.newaxis] - 1, 0))
        entry += start[part, np.newaxis]
        some = count[part] > 0
        sparse.columns[place[part][some]] = flat[entry[some]]
        sparse.values[place[part][some]] = numbers[entry[some]]
    return sparse
