"""The arrays of a linear loss, what is said about them, and how much of them is worked on at once.

A linear loss has one map from features to logits, or two: a divergence has those of a student and
of its teacher.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsoftmax.autodiff.select import select
from jaxsoftmax.ops.call import arguments
from jaxsoftmax.ops.call.options import Options
from jaxsoftmax.ops.devices.classes import Classes, Here, Names, Spread
from jaxsoftmax.ops.devices.mesh import CLASSES, ROWS
from jaxsoftmax.ops.row.exponentials import is_impossible

Reduction = Literal["mean", "sum", "none"]

# ------------------------------------------------------------------------------------------------
# Arrays; None is an empty pytree
# ------------------------------------------------------------------------------------------------


class Shared(NamedTuple):
    """What all rows share."""

    kernels: Any  # of each map (D, C)
    biases: Any  # of each map (C,), or None
    class_weights: Any = None  # (1, C), or None
    classes: Any = None  # mask (1, C), or None
    temperature: Any = None  # (1, 1), or None where it is no array


class Rows(NamedTuple):
    """What each row has: (..., ·) as given, (N, ·) in the rules."""

    features: Any  # of each map (N, D)
    labels: Any = None  # (N,) or (N, K) integer, or t (N, C), or None
    label_weights: Any = None  # (N, K), or None for 1
    weights: Any = None  # (N,), or None for 1
    arrays: Any = None  # a tree of (N, ...), of the caller's
    entries: Any = None  # mask (N, C), or None
    keep: Any = None  # mask (N,): which rows count, or None for all
    admissible: Any = None  # (N, 1): how many classes, of all devices, if the loss needs it


def axes_of(shared: Shared, rows: Rows) -> tuple[Shared, Rows]:
    """A tree like the arrays, of what their axes stand for."""
    integer = rows.labels is not None and arguments.are_classes(rows.labels)
    several = integer and rows.labels.ndim == rows.features[0].ndim
    of_labels: Any = (ROWS, None) if several else (ROWS,)
    maps, batch = len(shared.kernels), rows.features[0].ndim - 1
    axes = (
        Shared(
            kernels=((None, CLASSES),) * maps,
            biases=((CLASSES,),) * maps,
            class_weights=(None, CLASSES),
            classes=(None, CLASSES),
            temperature=(None, None),
        ),
        Rows(
            features=((ROWS, None),) * maps,
            labels=of_labels if integer else (ROWS, CLASSES),
            label_weights=(ROWS, None),
            weights=(ROWS,),
            arrays=jax.tree.map(lambda a: (ROWS,) + (None,) * (a.ndim - batch), rows.arrays),
            entries=(ROWS, CLASSES),
        ),
    )
    there: tuple[Shared, Rows] = jax.tree.map(
        lambda a, of_a: None if a is None else of_a,
        (shared, rows),
        axes,
        is_leaf=lambda a: a is None,
    )
    return there


# ------------------------------------------------------------------------------------------------
# Settings
# ------------------------------------------------------------------------------------------------


def mask_of(shared: Shared, rows: Rows) -> Array | None:
    """Which classes exist, (1, C) or (N, C), or None for all."""
    mask: Array | None = shared.classes if rows.entries is None else rows.entries
    return mask


def kept(rows: Rows) -> Array | None:
    """Which rows count, (N, 1), or None for all."""
    return None if rows.keep is None else rows.keep[:, None]


@dataclasses.dataclass(frozen=True)
class OfLogits:
    """The values of a block of rows, from their logits; equal where it does the same.

    `temperature` is 1 where it is an array, `Shared.temperature`.
    """

    options: Options
    temperature: float

    def of_tiles(self, rows: Rows) -> Any:
        """How they are had of some classes at a time (`tiles`), or None where they cannot be."""
        del rows
        return None

    @property
    def counts(self) -> bool:
        """Whether they need to know how many classes are admissible."""
        return self.options.label_smoothing > 0

    @property
    def weighed(self) -> bool:
        """Whether the weights of rows multiply them, or only say which of them count."""
        return True

    @property
    def no_tangent(self) -> Any:
        """A tree with None in the place of each array of what the rows tell besides."""
        return None

    def without_stats(self) -> OfLogits:
        """The same values alone."""
        return self

    def __call__(
        self, logits: tuple[Array, ...], shared: Shared, rows: Rows, classes: Classes
    ) -> tuple[Any, Any]:
        """The values, a tree of (N,) or (N, K), or the shares of this device; and what else."""
        raise NotImplementedError

    def of_block(self, z: Array, shared: Shared, rows: Rows) -> Array:
        """The logits that are meant, of a block of rows."""
        return self.seen(z, shared, mask_of(shared, rows))

    def seen(self, z: Array, shared: Shared, mask: Array | None) -> Array:
        """The logits that are meant: capped, over the temperature, and -inf at masked classes."""
        x, _ = self.options.logits(z, mask, 1)
        if self.temperature != 1:
            x = x / jnp.asarray(self.temperature, x.dtype)
        if shared.temperature is None:
            return x
        # Of an impossible class nothing is asked, not even by the temperature.
        impossible = is_impossible(x)
        possible = select(impossible, 0, x)
        return select(impossible, x, possible / shared.temperature.astype(x.dtype))


class Settings(NamedTuple):
    """What is said about the loss, all of it static."""

    losses: OfLogits
    dtype: Any  # of the losses
    reduction: Reduction
    axis_name: Names | None  # the mesh axes of a surrounding shard_map that spread the classes
    row_axes: tuple[str, ...] = ()  # and those that spread the rows
    ignore_index: int | None = None

    @property
    def classes(self) -> Classes:
        """Where the classes of a block of logits are."""
        # Kernels gain nothing here, but for the losses of few classes (`label_losses`).
        return Here(1, kernels=False) if self.axis_name is None else Spread(self.axis_name)

    def of_logits(self, logits: tuple[Array, ...], shared: Shared, rows: Rows) -> tuple[Array, Any]:
        """The losses of a block of rows, and their statistics."""
        return self.losses(logits, shared, rows, self.classes)

    def without_stats(self) -> Settings:
        """The same without the statistics of rows."""
        return self._replace(losses=self.losses.without_stats())

    @property
    def no_tangent(self) -> Any:
        """That of what the rows tell besides their values."""
        return self.losses.no_tangent

    @property
    def axes(self) -> tuple[str, ...]:
        """The mesh axes over which rows or classes are spread."""
        names = (self.axis_name,) if isinstance(self.axis_name, str) else self.axis_name
        return (*self.row_axes, *(names or ()))


# ------------------------------------------------------------------------------------------------
# Sizes
# ------------------------------------------------------------------------------------------------


class Tile(NamedTuple):
    """The size of a block of logits that has some of the classes."""

    rows: int
    classes: int


# Measured on CPU: from 512 rows on the sums of a block, which go to memory, no longer count beside
# its products, and 64 MiB of logits still come from the same pages in every block. Of few classes
# and features more rows fit a cache, and products of 1024 would be too small for all threads. Of
# fewer than 64 rows of all classes each product waits for its kernel; tiles then take half of the
# time, although they compute the logits twice (docs/performance.md).
_ROWS = 1024
_CACHE = 4 << 20  # of features and logits
_FEW_ROWS = 64
_FEW_CLASSES = 128  # of a tile
_BUDGET = 64 << 20


class Sizes(NamedTuple):
    """How much is worked on at once."""

    block_size: int | None
    memory_budget: int | None

    @classmethod
    def checked(cls, function: str, block_size: int | None, memory_budget: int | None) -> Sizes:
        """Sizes in range, or an error that says what the range is."""
        return cls(
            _positive(function, "block_size", block_size),
            _positive(function, "memory_budget", memory_budget),
        )

    def rows(self, number: Any, row_bytes: int, of_features: int) -> int:
        """Rows in a block: 1024, more where a cache holds them, as many as the budget does at most.

        One at the least. Among the sizes from half of that up the one that leaves no rest is
        preferred, if there is one: a rest makes XLA copy the rows before it.

        Args:
          number: of rows.
          row_bytes: of the logits of a row.
          of_features: bytes of its features.
        """
        if not isinstance(number, int):  # a symbol (`jax.export`)
            return self.block_size or max(1, min(_ROWS, self._budget // max(1, row_bytes)))
        if self.block_size is not None:
            return min(self.block_size, max(1, number))
        fit = self._budget // max(1, row_bytes)
        cached = _CACHE // max(1, row_bytes + of_features)
        most = max(1, min(number, max(_ROWS, cached), fit))
        divisors = (size for size in range(most, most // 2, -1) if number % size == 0)
        return next(divisors, most)

    def tile(self, number: Any, classes: int, dtype: Any) -> Tile | None:
        """The tile of blocks that have some of the classes, None where enough rows of all fit."""
        number = number if isinstance(number, int) else _ROWS
        entries = self._budget // jnp.dtype(dtype).itemsize
        if self.block_size is not None or entries >= classes * min(number, _FEW_ROWS):
            return None
        rows = max(1, min(number, _ROWS, entries // _FEW_CLASSES))
        return Tile(rows, max(1, min(classes, entries // rows)))

    @property
    def _budget(self) -> int:
        return _BUDGET if self.memory_budget is None else self.memory_budget


def _positive(function: str, name: str, value: int | None) -> int | None:
    if value is None:
        return None
    whole = arguments.number(
        function, name, value, lambda v: v >= 1 and v == int(v), "a whole number, at least 1"
    )
    return int(whole)
