r"""A block of rows of the linear classifier loss, some classes at a time: for very many classes.

Notation   as in `rules`, `label_loss`: t = β e_y + α; a tile is a block of rows times a
           block of classes. Over the tiles of a row, of the classes so far,
           m the largest logit, r = Σ exp(x - m) without the label, x_y once it is met,
           A = Σ α without the label, a = α_y, d = Σ α (m - x)
Merge      m' the larger of two: r times exp(m - m'), d plus (A + a) (m' - m)
Losses     L = -β ℓ_y + (A + a) log S + d + λ s²
Gradients  a second pass over the tiles, with these known: g, F̄ += G Wᵀ, W̄ = Fᵀ G, b̄ = Σ G
Work       8NDC flops against 6NDC for rows of all classes, but each part of W and of W̄ is read and
           written once for many rows, not once for the few rows that fit.
Order 2    The derivative of all this is taken of the same function in blocks of rows.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxsoftmax.autodiff import differentiates_as
from jaxsoftmax.autodiff.varying import varying_axes, varying_like, zeros_varying
from jaxsoftmax.ops.call.options import Options, admissible
from jaxsoftmax.ops.devices.classes import Here
from jaxsoftmax.ops.row import xla
from jaxsoftmax.ops.row.exponentials import (
    exponentials,
    finite,
    is_class,
    largest_exponential,
    pick,
    row_max,
    shifted,
    weighted,
    without_class,
    zero_where_dropped,
)
from jaxsoftmax.ops.row.label import label_row, weighted_nll

from .block import (
    BlockGradients,
    BlockValues,
    kept,
    lies,
    linear_bars,
    linear_logits,
    without_maps,
)
from .problem import Rows, Settings, Shared, Tile
from .stream import Body, stream

T = TypeVar("T")


def tiled(
    body: BlockValues | BlockGradients, shared: Shared, rows: Rows, size: int, tile: Tile | None
) -> tuple[Body, int]:
    """`body`, or the same with tiles where it can be; and how many rows it takes at a time."""
    others = isinstance(body, BlockGradients) and any(jax.tree.leaves(without_maps(*body.asked)))
    if tile is None or not body.settings.losses.can_tile or others or lies(shared.kernels[0]):
        return body, size
    return Tiles(body, tile, size), tile.rows


@dataclasses.dataclass(frozen=True)
class Tiles:
    """What `body` does to a block of rows, with the logits of no more than a tile at once."""

    body: BlockValues | BlockGradients
    tile: Tile
    size: int  # rows in a block of all classes

    def __call__(self, shared: Shared, rows: Any) -> tuple[Any, Any]:
        """As `body`."""
        out: tuple[Any, Any] = _of_tiles(
            shared, rows, body=self.body, tile=self.tile, size=self.size
        )
        return out


def _of_rows(shared: Shared, rows: Any, *, body: Body, tile: Tile, size: int) -> Any:
    return stream(shared, rows, None, body=body, size=size)


@differentiates_as(_of_rows)
def _of_tiles(shared: Shared, rows: Any, *, body: Any, tile: Tile, size: int) -> Any:
    only_rows, bars = (rows, None) if isinstance(body, BlockValues) else rows
    block = _Block(body.settings, tile.classes, shared, only_rows)
    row = block.row(block.statistics())
    out = row.losses[:, 0], None
    if bars is None:
        return None, out
    of_features, of_kernel, of_bias = body.asked_maps()[0]
    asked = of_features, of_kernel, of_bias
    f_bar, w_bar, b_bar = block.gradients(row, varying_like(bars, row.losses), asked)
    shared_bar, rows_bar = jax.tree.map(lambda _: None, body.asked)
    return shared_bar._replace(kernels=(w_bar,), biases=(b_bar,)), (
        out,
        rows_bar._replace(features=(f_bar,)),
    )


class _Spread(NamedTuple):
    """Of α and the classes so far, (n, 1)."""

    others: Array  # A
    at_label: Array  # a
    distance: Array  # d

    @property
    def mass(self) -> Array:
        return self.others + self.at_label


class _Statistics(NamedTuple):
    """Of the classes so far, (n, 1)."""

    m: Array
    r: Array
    x_y: Array  # NaN until the label is met, and so for a label that is no class
    spread: _Spread | None  # None where α is 0

    def with_maximum(self, m: Array) -> _Statistics:
        """The same, of a maximum that is as large or larger."""
        higher = jnp.where(self.m < m, m - finite(self.m), jnp.zeros_like(m))
        spread = self.spread
        if spread is not None:
            further = weighted(spread.mass, higher)
            spread = spread._replace(distance=spread.distance + further)
        return self._replace(m=m, r=self.r * jnp.exp(-higher), spread=spread)


class _Row(NamedTuple):
    """What the losses and gradients of a block of rows are made of, (n, 1)."""

    losses: Array
    m: Array
    at_label: Array  # g at the label
    factor: Array  # g elsewhere is this times exp(x - M), minus α


@dataclasses.dataclass(frozen=True)
class _Block:
    """A block of rows, and what can be told of it tile by tile."""

    settings: Settings
    width: int  # classes in a tile
    shared: Shared
    rows: Rows

    @property
    def options(self) -> Options:
        return self.settings.losses.options

    @property
    def classes(self) -> int:
        classes: int = self.shared.kernels[0].shape[1]
        return classes

    @property
    def labels(self) -> Array:
        """(n, 1)."""
        labels: Array = self.rows.labels[:, None]
        return labels

    @functools.cached_property
    def features(self) -> Array:
        return kept(self.rows)[0]

    def over_tiles(self, tile: Callable[[_Tile, T], T], carry: T) -> T:
        """`tile(of some classes, carry)` for all classes in turn; the last may be fewer."""
        width = self.width
        count, rest = divmod(self.classes, width)
        carry = lax.fori_loop(0, count, lambda i, c: tile(_Tile(self, i * width, width), c), carry)
        return tile(_Tile(self, count * width, rest), carry) if rest else carry

    def zeros(self, *shape: int) -> Any:
        return zeros_varying(shape, self.settings.dtype, varying_axes((self.shared, self.rows)))

    def statistics(self) -> _Statistics:
        """The first pass."""
        zero = self.zeros(self.features.shape[0], 1)

        def step(tile: _Tile, so_far: _Statistics) -> _Statistics:
            x, y = tile.logits()[0], tile.labels
            m = jnp.maximum(so_far.m, row_max(x, 1))
            # All classes so far may be impossible.
            largest = jnp.maximum(m, finite(jnp.full_like(m, -jnp.inf)))
            e = without_class(exponentials(x, largest), y, 1)
            r = jnp.sum(e, 1, keepdims=True) / largest_exponential(largest)
            here = (y >= 0) & (y < tile.width)
            merged = so_far.with_maximum(m)
            merged = merged._replace(r=merged.r + r, x_y=jnp.where(here, pick(x, y, 1), merged.x_y))
            alpha, spread = tile.spread(x), merged.spread
            if alpha is None or spread is None:
                return merged
            distance = weighted(alpha, -shifted(x, largest))
            others = jnp.sum(without_class(alpha, y, 1), 1, keepdims=True)
            spread = _Spread(
                spread.others + others,
                jnp.where(here, pick(alpha, y, 1), spread.at_label),
                spread.distance + jnp.sum(distance, 1, keepdims=True),
            )
            return merged._replace(spread=spread)

        nothing = _Spread(zero, zero, zero) if self.options.label_smoothing else None
        start = _Statistics(jnp.full_like(zero, -jnp.inf), zero, zero, nothing)
        return self.over_tiles(step, start)

    def row(self, of: _Statistics) -> _Row:
        """As in `label_loss`."""
        options, keep, dtype = self.options, self.rows.keep, self.settings.dtype
        one, y = jnp.ones((), dtype), self.labels
        valid = (y >= 0) & (y < self.classes)
        m, r, x_y = of.m, of.r, of.x_y
        if keep is not None:
            m, r, x_y = (zero_where_dropped(value, keep[:, None]) for value in (m, r, x_y))
            valid = valid | ~keep[:, None]
        label = label_row(m, r * largest_exponential(m), x_y, valid)
        beta: Any = one - options.label_smoothing
        if self.shared.class_weights is not None:
            beta = beta * jnp.take(self.shared.class_weights[0].astype(dtype), y, mode="clip")
        losses, mass, others = weighted_nll(beta, label.nll), beta, jnp.zeros((), dtype)
        if of.spread is not None:
            losses = losses + of.spread.mass * label.excess + of.spread.distance
            mass, others = mass + of.spread.mass, of.spread.others
        s = m + label.excess
        pull = 2 * options.z_loss * s if options.z_loss else jnp.zeros_like(s)
        losses = losses + pull * s / 2
        at_label = others - mass * label.others + pull * label.probability
        factor = (mass + pull) * label.scale
        if keep is not None:
            losses = jnp.where(keep[:, None], losses, jnp.zeros_like(losses))
        return _Row(losses, m, at_label, factor)

    def gradients(self, row: _Row, weights: Array, asked: Any) -> tuple[Any, ...]:
        """F̄, W̄ and b̄: the second pass."""
        bars = (
            self.zeros(*self.features.shape) if asked[0] else None,
            self.zeros(*self.shared.kernels[0].shape) if asked[1] else None,
            self.zeros(self.classes) if asked[2] else None,
        )
        weights = weights[:, None].astype(self.settings.dtype)
        counted = weights != 0
        if self.rows.keep is not None:
            counted = counted & self.rows.keep[:, None]

        def step(tile: _Tile, bars: tuple[Any, ...]) -> tuple[Any, ...]:
            x, back = tile.logits()
            # The logits are computed again: need they be the same? At least none is larger.
            elsewhere = exponentials(xla.capped(x, row.m), row.m)
            elsewhere = elsewhere * (row.factor * weights)
            alpha = tile.spread(x)
            elsewhere = elsewhere if alpha is None else elsewhere - alpha * weights
            hit = is_class(tile.labels, x, 1)
            g = jnp.where(hit, row.at_label * weights, elsewhere)
            (g,) = back(jnp.where(counted, g, jnp.zeros_like(g)))
            f_bar, w_bar, b_bar = linear_bars(g, self.features, tile.kernel, asked)
            w_bar = w_bar.T if w_bar is not None and lies(tile.kernel) else w_bar
            return (
                None if f_bar is None else bars[0] + f_bar,
                _with_part(bars[1], w_bar, tile.start),
                _with_part(bars[2], b_bar, tile.start),
            )

        f_bar, w_bar, b_bar = self.over_tiles(step, bars)
        return None if f_bar is None else f_bar.astype(self.features.dtype), w_bar, b_bar


class _Tile(NamedTuple):
    """A block of rows, and some of the classes."""

    block: _Block
    start: Any
    width: int

    def part(self, x: Any) -> Any:
        """Of an array that has the classes behind."""
        if x is None:
            return None
        return lax.dynamic_slice_in_dim(x, self.start, self.width, x.ndim - 1)

    @property
    def kernel(self) -> Array:
        kernel: Array = self.part(self.block.shared.kernels[0])
        return kernel

    @property
    def labels(self) -> Array:
        """The number of the label among these classes, (n, 1)."""
        labels = self.block.labels
        return labels - jnp.asarray(self.start).astype(labels.dtype)

    @property
    def mask(self) -> Any:
        shared, rows = self.block.shared, self.block.rows
        return self.part(shared.classes if rows.entries is None else rows.entries)

    def logits(self) -> tuple[Array, Callable[[Array], Any]]:
        """The logits that the loss sees, and their transposed derivative."""
        mask, bias = self.mask, self.part(self.block.shared.biases[0])
        z = linear_logits(self.block.features, self.kernel, bias)
        losses, shared = self.block.settings.losses, self.block.shared
        x, back = jax.vjp(lambda z: losses.seen(z, shared, mask), z)
        return xla.stored(x), back

    def spread(self, x: Array) -> Array | None:
        """α, (n, c) or one that broadcasts to it; None where it is 0."""
        options, count = self.block.options, self.block.rows.admissible
        if not options.label_smoothing:
            return None
        number = jnp.asarray(self.block.classes) if count is None else count
        alpha = options.uniform(x, self.mask, Here(1), number)
        weights = self.part(self.block.shared.class_weights)
        if weights is not None:
            alpha = admissible(alpha * weights.astype(x.dtype), self.mask)
        return jnp.broadcast_to(alpha, x.shape)


def _with_part(x: Any, part: Any, start: Any) -> Any:
    """`x` with some of its classes, which are behind, replaced."""
    if x is None:
        return None
    return lax.dynamic_update_slice_in_dim(x, part.astype(x.dtype), start, x.ndim - 1)
