r"""What is made of log-probabilities, entropy and logsumexp, some classes at a time.

The first pass merges what is known of rows (`merging`) and keeps the logits of the picked classes;
values and cotangents are those of blocks of all classes, and so is the gradient in the logits of a
tile (`log_probabilities.pulled`). The rank of a label needs its logit beforehand: a pass of its
own, where somebody asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsoftmax.autodiff.select import select
from jaxsoftmax.autodiff.varying import varying_like
from jaxsoftmax.ops.devices.classes import Here
from jaxsoftmax.ops.log_probabilities import (
    Known,
    RowValues,
    nan_of_none,
    pulled_back,
    total_distance,
    values_of,
)
from jaxsoftmax.ops.probabilities import Kept, probabilities
from jaxsoftmax.ops.row import xla
from jaxsoftmax.ops.row.exponentials import pick, row_max, zero_where_dropped
from jaxsoftmax.ops.row.merging import Merged

if TYPE_CHECKING:
    from .tiles import Block, PartOfBlock


class _SoFar(NamedTuple):
    """Of the classes so far."""

    merged: Merged
    at_picks: Any  # their logits (n, K), 0 until a class is met
    first: Any  # the first class that attains the maximum, (n, 1)


class _Rows(NamedTuple):
    """What values and gradients are made of."""

    known: Known
    at_picks: Any
    first: Any
    bars: Any = None  # of the `RowValues`


def start(block: Block) -> _SoFar:
    """Of no class."""
    ask, zero, none = _losses(block).ask, block.column(), block.column(dtype=jnp.int32)
    merged = Merged(jnp.full_like(zero, -jnp.inf), none - 1, zero)
    if "entropy" in ask:
        merged = merged._replace(distance=zero)
    picks = _picks(block)
    at_picks = block.zeros(*picks.shape) if "log_prob" in ask else None
    return _SoFar(merged, at_picks, none if _losses(block).discrete else None)


def met(tile: PartOfBlock, so_far: _SoFar) -> _SoFar:
    """Of the classes so far and those of a tile."""
    x = tile.logits()[0]
    merged, at_picks, first = so_far
    if at_picks is not None:
        own = tile.own(_picks(tile.block))
        here = (own >= 0) & (own < tile.width)
        at_picks = select(here, pick(x, own, 1), at_picks)
    if first is not None:
        top = row_max(x, 1)
        further = (top > merged.max) | (jnp.isnan(top) & ~jnp.isnan(merged.max))
        k = jnp.argmax(x, 1, keepdims=True).astype(first.dtype)
        first = select(further, k + jnp.asarray(tile.start, first.dtype), first)
    distance = None if merged.distance is None else _distance
    return _SoFar(merged.and_part(x, tile.start, distance), at_picks, first)


def _distance(x: Array, m: Array) -> Array:
    return total_distance(x, m, 1, ask=False)


def known(block: Block, so_far: _SoFar) -> _Rows:
    """Of the rows, when all classes have been met; those that are left out may hold anything."""
    merged, at_picks, first = jax.tree.map(lambda v: zero_where_dropped(v, block.keep), so_far)
    distance = None if merged.distance is None else merged.mean_distance()
    return _Rows(Known(**merged.row()._asdict(), distance=distance), at_picks, first)


def values(block: Block, rows: _Rows) -> tuple[Any, Any]:
    """Those of blocks of all classes."""
    losses = _losses(block)
    made = losses.made_of(_row_values(block, rows), block.shared, block.rows, Here(1))
    if rows.first is None:
        return made, None
    return made, losses.discrete_of(rows.first, _before(block, rows), block.rows)


def _row_values(block: Block, rows: _Rows) -> RowValues:
    found = values_of(rows.known, rows.at_picks, _losses(block).ask)
    if found.log_prob is None:
        return found
    nothing = nan_of_none(_picks(block), block.classes, found.log_prob.dtype)
    return found._replace(log_prob=found.log_prob + nothing)


def _before(block: Block, rows: _Rows) -> Array:
    """How many classes come before the label, (n, 1)."""
    losses = _losses(block)
    y = losses.label(block.rows)
    # Of several picks the label is the one that has the label's number.
    at_label = jnp.argmax(_picks(block) == y, 1, keepdims=True)
    x_y = pick(rows.at_picks, at_label, 1)

    def step(tile: PartOfBlock, so_far: Array) -> Array:
        count: Array = so_far + losses.before(tile.logits()[0], tile.own(y), x_y)
        return count

    count: Array = block.over_tiles(step, block.column(dtype=jnp.int32))
    exists = (y >= 0) & (y < block.classes)
    return select(exists, count, jnp.asarray(block.classes, jnp.int32))


def pulled(block: Block, rows: _Rows, bars: Any) -> _Rows:
    """What gradients are made of: the rows, and the cotangents of what is told of them."""

    def made_of(found: RowValues) -> Any:
        return _losses(block).made_of(found, block.shared, block.rows, Here(1))

    made, back = jax.vjp(made_of, _row_values(block, rows))
    bars = jax.tree.map(lambda bar, y: varying_like(bar, y).astype(y.dtype), bars, made)
    return rows._replace(bars=back(bars)[0])


def gradient(tile: PartOfBlock, x: Array, *, known: _Rows) -> Array:
    """In the logits of a tile."""
    of, classes = known.known, Here(1)
    # The logits are computed again: need they be the same? At least none is larger.
    kept = Kept(xla.capped(x, of.max), of.max, jnp.ones_like(of.total) / of.total)
    p = probabilities(kept, classes)
    picks = _picks(tile.block)
    own = none = None
    if known.bars.log_prob is not None:
        own, none = tile.own(picks), nan_of_none(picks, tile.block.classes, p.dtype)
    of_rows = of.distance, tile.own(of.main), of.others / of.total
    terms = pulled_back(p, kept, (own, none), of_rows, known.bars, classes)
    return sum(terms[1:], terms[0])


def _losses(block: Block) -> Any:
    return block.settings.losses


def _picks(block: Block) -> Any:
    """(n, K)."""
    labels = block.rows.labels
    return labels[:, None] if labels.ndim == 1 else labels
