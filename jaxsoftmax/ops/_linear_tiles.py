r"""A block of rows of the linear classifier loss, some classes at a time: for very many classes.

Notation   as in `_linear_stream`, `_integer_loss`: t = β e_y + α; a tile is a block of rows times a
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
from jax.custom_derivatives import SymbolicZero

from jaxsoftmax.autodiff.varying import varying_axes, varying_like, zeros_varying

from ._blocks import Body, stream
from ._linear_block import (
    CUT,
    BlockGradients,
    BlockLosses,
    Masks,
    Plan,
    Problem,
    kept,
    lies,
    linear_bars,
    linear_logits,
)
from .call import arguments
from .call.options import admissible
from .devices.classes import Here
from .row import exponentials as numerics
from .row import xla
from .row.label import label_row

T = TypeVar("T")


def tiled(body: BlockLosses | BlockGradients, problem: Problem) -> tuple[Body, int]:
    """`body`, or the same with tiles if the plan has them; and how many rows it takes at a time."""
    plan = body.plan
    asked = body.asked if isinstance(body, BlockGradients) else None
    of_classes = asked is not None and asked.class_weights
    integers = arguments.are_classes(problem.labels)
    if plan.tile is None or plan.stats or of_classes or lies(problem.kernel) or not integers:
        return body, plan.block
    return Tiles(body), plan.tile.rows


@dataclasses.dataclass(frozen=True)
class Tiles:
    """What `body` does to a block of rows, with the logits of no more than a tile at once."""

    body: BlockLosses | BlockGradients

    def __call__(self, *args: Any) -> tuple[Any, Any]:
        out: tuple[Any, Any] = _of_tiles(self.body, *args)
        return out


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _of_tiles(body: BlockLosses | BlockGradients, *args: Any) -> tuple[Any, Any]:
    rows = _Rows(body.plan, Problem(*args[:5]), Masks(*args[5:9]))
    row = rows.row(rows.statistics())
    if isinstance(body, BlockLosses):
        return None, (row.losses[:, 0], None)
    f_bar, w_bar, b_bar = rows.gradients(row, varying_like(args[9], row.losses), body.asked)
    return Problem(None, w_bar, b_bar, None, None), (
        (row.losses[:, 0], None),
        Problem(f_bar, None, None, None, None),
    )


def _of_tiles_jvp(body: Any, primals: Any, tangents: Any) -> tuple[Any, Any]:
    moving = {
        i: dot
        for i, dot in enumerate(tangents)
        if dot is not None and not isinstance(dot, SymbolicZero) and dot.dtype != jax.dtypes.float0
    }

    def in_rows(values: dict[int, Any]) -> Any:
        args = [values.get(i, arg) for i, arg in enumerate(primals)]
        cut = (*CUT, True)[: len(args)]
        return stream(*args, body=body, cut=cut, size=body.plan.block)

    there = {i: primals[i] for i in moving}
    return _of_tiles(body, *primals), jax.jvp(in_rows, (there,), (moving,))[1]


_of_tiles.defjvp(_of_tiles_jvp, symbolic_zeros=True)


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
        higher = jnp.where(self.m < m, m - numerics.finite(self.m), jnp.zeros_like(m))
        spread = self.spread
        if spread is not None:
            further = numerics.weighted(spread.mass, higher)
            spread = spread._replace(distance=spread.distance + further)
        return self._replace(m=m, r=self.r * jnp.exp(-higher), spread=spread)


class _Row(NamedTuple):
    """What the losses and gradients of a block of rows are made of, (n, 1)."""

    losses: Array
    m: Array
    at_label: Array  # g at the label
    factor: Array  # g elsewhere is this times exp(x - M), minus α


@dataclasses.dataclass(frozen=True)
class _Rows:
    """A block of rows, and what can be told of it tile by tile."""

    plan: Plan
    problem: Problem
    masks: Masks

    @property
    def classes(self) -> int:
        classes: int = self.problem.kernel.shape[1]
        return classes

    @functools.cached_property
    def features(self) -> Array:
        return kept(self.problem.features, self.masks.keep)

    def over_tiles(self, tile: Callable[[_Tile, T], T], carry: T) -> T:
        """`tile(of some classes, carry)` for all classes in turn; the last may be fewer."""
        width = self.plan.tile.classes if self.plan.tile else self.classes
        count, rest = divmod(self.classes, width)
        carry = lax.fori_loop(0, count, lambda i, c: tile(_Tile(self, i * width, width), c), carry)
        return tile(_Tile(self, count * width, rest), carry) if rest else carry

    def zeros(self, *shape: int) -> Any:
        return zeros_varying(shape, self.plan.dtype, varying_axes((self.problem, self.masks)))

    def statistics(self) -> _Statistics:
        """The first pass."""
        zero = self.zeros(self.features.shape[0], 1)

        def step(tile: _Tile, so_far: _Statistics) -> _Statistics:
            x, y = tile.logits()[0], tile.labels
            m = jnp.maximum(so_far.m, numerics.row_max(x, 1))
            # All classes so far may be impossible.
            largest = jnp.maximum(m, numerics.finite(jnp.full_like(m, -jnp.inf)))
            e = numerics.without_class(numerics.exponentials(x, largest), y, 1)
            r = jnp.sum(e, 1, keepdims=True) / numerics.largest_exponential(largest)
            here = (y >= 0) & (y < tile.width)
            merged = so_far.with_maximum(m)
            merged = merged._replace(
                r=merged.r + r, x_y=jnp.where(here, numerics.pick(x, y, 1), merged.x_y)
            )
            alpha, spread = tile.spread(x), merged.spread
            if alpha is None or spread is None:
                return merged
            distance = numerics.weighted(alpha, -numerics.shifted(x, largest))
            others = jnp.sum(numerics.without_class(alpha, y, 1), 1, keepdims=True)
            spread = _Spread(
                spread.others + others,
                jnp.where(here, numerics.pick(alpha, y, 1), spread.at_label),
                spread.distance + jnp.sum(distance, 1, keepdims=True),
            )
            return merged._replace(spread=spread)

        nothing = _Spread(zero, zero, zero) if self.plan.options.label_smoothing else None
        start = _Statistics(jnp.full_like(zero, -jnp.inf), zero, zero, nothing)
        return self.over_tiles(step, start)

    def row(self, of: _Statistics) -> _Row:
        """As in `_integer_loss`."""
        plan, keep, one = self.plan, self.masks.keep, jnp.ones((), self.plan.dtype)
        y, m = self.problem.labels[:, None], of.m
        valid = (y >= 0) & (y < self.classes)
        label = label_row(m, of.r * numerics.largest_exponential(m), of.x_y, valid)
        beta: Any = one - plan.options.label_smoothing
        if self.problem.class_weights is not None:
            weights = self.problem.class_weights[0].astype(plan.dtype)
            beta = beta * jnp.take(weights, self.problem.labels[:, None], mode="clip")
        losses, mass, others = beta * label.nll, beta, jnp.zeros((), plan.dtype)
        if of.spread is not None:
            losses = losses + of.spread.mass * label.excess + of.spread.distance
            mass, others = mass + of.spread.mass, of.spread.others
        s = m + label.excess
        pull = 2 * plan.options.z_loss * s if plan.options.z_loss else jnp.zeros_like(s)
        losses = losses + pull * s / 2
        at_label = others - mass * label.others + pull * label.probability
        factor = (mass + pull) * label.scale
        if keep is not None:
            losses = jnp.where(keep[:, None], losses, jnp.zeros_like(losses))
        return _Row(losses, m, at_label, factor)

    def gradients(self, row: _Row, weights: Array, asked: Problem) -> tuple[Any, ...]:
        """F̄, W̄ and b̄: the second pass."""
        bars = (
            self.zeros(*self.features.shape) if asked.features else None,
            self.zeros(*self.problem.kernel.shape) if asked.kernel else None,
            self.zeros(self.classes) if asked.bias else None,
        )
        weights = weights[:, None].astype(self.plan.dtype)
        counted = weights != 0
        if self.masks.keep is not None:
            counted = counted & self.masks.keep[:, None]

        def step(tile: _Tile, bars: tuple[Any, ...]) -> tuple[Any, ...]:
            x, back = tile.logits()
            # The logits are computed again: need they be the same? At least none is larger.
            elsewhere = numerics.exponentials(jnp.minimum(x, row.m), row.m)
            elsewhere = elsewhere * (row.factor * weights)
            alpha = tile.spread(x)
            elsewhere = elsewhere if alpha is None else elsewhere - alpha * weights
            hit = numerics.is_class(tile.labels, x, 1)
            g = jnp.where(hit, row.at_label * weights, elsewhere)
            (g,) = back(jnp.where(counted, g, jnp.zeros_like(g)))
            f_bar, w_bar, b_bar = linear_bars(g, self.features, tile.kernel, asked)
            if w_bar is not None and lies(tile.kernel):
                w_bar = w_bar.T
            return (
                None if f_bar is None else bars[0] + f_bar,
                _with_part(bars[1], w_bar, tile.start),
                _with_part(bars[2], b_bar, tile.start),
            )

        f_bar, w_bar, b_bar = self.over_tiles(step, bars)
        return None if f_bar is None else f_bar.astype(self.features.dtype), w_bar, b_bar


class _Tile(NamedTuple):
    """A block of rows, and some of the classes."""

    rows: _Rows
    start: Any
    width: int

    def part(self, x: Any) -> Any:
        """Of an array that has the classes behind."""
        if x is None:
            return None
        return lax.dynamic_slice_in_dim(x, self.start, self.width, x.ndim - 1)

    @property
    def kernel(self) -> Array:
        kernel: Array = self.part(self.rows.problem.kernel)
        return kernel

    @property
    def labels(self) -> Array:
        """The number of the label among these classes, (n, 1)."""
        labels: Array = self.rows.problem.labels[:, None]
        return labels - jnp.asarray(self.start).astype(labels.dtype)

    @property
    def mask(self) -> Any:
        masks = self.rows.masks
        return self.part(masks.classes if masks.entries is None else masks.entries)

    def logits(self) -> tuple[Array, Callable[[Array], Any]]:
        """The logits that the loss sees, and their transposed derivative."""
        options, mask = self.rows.plan.options, self.mask
        z = linear_logits(self.rows.features, self.kernel, self.part(self.rows.problem.bias))
        x, back = jax.vjp(lambda z: options.logits(z, mask, 1)[0], z)
        return xla.stored(x), back

    def spread(self, x: Array) -> Array | None:
        """α, (n, c) or one that broadcasts to it; None where it is 0."""
        options, rows = self.rows.plan.options, self.rows
        if not options.label_smoothing:
            return None
        count = rows.masks.admissible
        alpha = options.uniform(
            x, self.mask, Here(1), jnp.asarray(rows.classes) if count is None else count
        )
        weights = self.part(rows.problem.class_weights)
        if weights is not None:
            alpha = admissible(alpha * weights.astype(x.dtype), self.mask)
        return jnp.broadcast_to(alpha, x.shape)


def _with_part(x: Any, part: Any, start: Any) -> Any:
    """`x` with some of its classes, which are behind, replaced."""
    if x is None:
        return None
    return lax.dynamic_update_slice_in_dim(x, part.astype(x.dtype), start, x.ndim - 1)
