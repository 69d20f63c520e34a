r"""The loss of one label a row, some classes at a time.

Notation   as in `rules`, `label_loss`: t = β e_y + α. Over the tiles of a row, of the classes so
           far, m the largest logit, r = Σ exp(x - m) without the label, x_y once it is met,
           A = Σ α without the label, a = α_y, d = Σ α (m - x)
Merge      m' the larger of two: r times exp(m - m'), d plus (A + a) (m' - m)
Losses     L = -β ℓ_y + (A + a) log S + d + λ s²
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxsoftmax.ops.call.options import admissible
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

if TYPE_CHECKING:
    from .tiles import Block, PartOfBlock


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
    weights: Any = None  # of the losses


def start(block: Block) -> _Statistics:
    """Of no class."""
    zero = block.column()
    nothing = _Spread(zero, zero, zero) if _options(block).label_smoothing else None
    return _Statistics(jnp.full_like(zero, -jnp.inf), zero, zero, nothing)


def met(tile: PartOfBlock, so_far: _Statistics) -> _Statistics:
    """Of the classes so far and those of a tile."""
    x, y = tile.logits()[0], _labels(tile)
    m = jnp.maximum(so_far.m, row_max(x, 1))
    # All classes so far may be impossible.
    largest = jnp.maximum(m, finite(jnp.full_like(m, -jnp.inf)))
    e = without_class(exponentials(x, largest), y, 1)
    r = jnp.sum(e, 1, keepdims=True) / largest_exponential(largest)
    here = (y >= 0) & (y < tile.width)
    merged = so_far.with_maximum(m)
    merged = merged._replace(r=merged.r + r, x_y=jnp.where(here, pick(x, y, 1), merged.x_y))
    alpha, spread = _alpha(tile, x), merged.spread
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


def known(block: Block, of: _Statistics) -> _Row:
    """As in `label_loss`."""
    options, keep, dtype = _options(block), block.keep, block.settings.dtype
    one, y = jnp.ones((), dtype), block.rows.labels[:, None]
    valid = (y >= 0) & (y < block.classes)
    m, r, x_y = of.m, of.r, of.x_y
    if keep is not None:
        m, r, x_y = (zero_where_dropped(value, keep) for value in (m, r, x_y))
        valid = valid | ~keep
    label = label_row(m, r * largest_exponential(m), x_y, valid)
    beta: Any = one - options.label_smoothing
    if block.shared.class_weights is not None:
        beta = beta * jnp.take(block.shared.class_weights[0].astype(dtype), y, mode="clip")
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
        losses = jnp.where(keep, losses, jnp.zeros_like(losses))
    return _Row(losses, m, at_label, factor)


def values(block: Block, known: _Row) -> tuple[Array, None]:
    """The losses (n,)."""
    del block
    return known.losses[:, 0], None


def pulled(block: Block, known: _Row, bars: Array) -> _Row:
    """What gradients are made of: the row, and the weights of the losses."""
    return known._replace(weights=bars[:, None].astype(block.settings.dtype))


def gradient(tile: PartOfBlock, x: Array, *, known: _Row) -> Array:
    """In the logits of a tile."""
    weights = known.weights
    # The logits are computed again: need they be the same? At least none is larger.
    elsewhere = exponentials(xla.capped(x, known.m), known.m) * (known.factor * weights)
    alpha = _alpha(tile, x)
    elsewhere = elsewhere if alpha is None else elsewhere - alpha * weights
    g = jnp.where(is_class(_labels(tile), x, 1), known.at_label * weights, elsewhere)
    return jnp.where(weights != 0, g, jnp.zeros_like(g))


def _options(block: Block) -> Any:
    return block.settings.losses.options


def _labels(tile: PartOfBlock) -> Array:
    """The number of the label among these classes, (n, 1)."""
    return tile.own(tile.block.rows.labels[:, None])


def _alpha(tile: PartOfBlock, x: Array) -> Array | None:
    """α, (n, c) or one that broadcasts to it; None where it is 0."""
    block = tile.block
    options, count = _options(block), block.rows.admissible
    if not options.label_smoothing:
        return None
    number = jnp.asarray(block.classes) if count is None else count
    alpha = options.uniform(x, tile.mask, Here(1), number)
    weights = tile.part(block.shared.class_weights)
    if weights is not None:
        alpha = admissible(alpha * weights.astype(x.dtype), tile.mask)
    return jnp.broadcast_to(alpha, x.shape)
