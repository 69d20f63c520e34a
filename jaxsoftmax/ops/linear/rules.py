r"""The linear classifier loss on canonical arrays, a block of rows at a time: the rules.

Notation   F features (N, D), W kernel (D, C), b bias (C,), Z = F W + b logits; u weight of a row;
           L loss of a row of Z, g = ∂L/∂z (`label_loss`, `distribution_loss`);
           t, w what else L depends on: target distributions, class weights.
Primal     rows: u L of every row                      total: Σ u L
Gradient   G = diag(u) g:  F̄ = G Wᵀ,  W̄ = Fᵀ G,  b̄ = Σ_rows G,  ū = L,  t̄ and w̄ as they come
JVP        rows: u Σ g∘Ż + u̇ L,  Ż = Ḟ W + F Ẇ + ḃ     total: Σ ⟨gradient, tangent⟩
VJP        rows: the gradient with u L̄ for u            total: the gradient times the cotangent
Saved      rows: the arguments                         total: the gradients that are asked for
Work       A product is 2NDC flops. Evaluation: Z. Total with derivatives: Z, and F̄ and W̄ where
           they are asked for. Rows: the same, and Z once more.
Order 2    by differentiating the gradient, block by block. Z is linear, so a Hessian product in
           (W, b) is that of the Gauss-Newton matrix: Ż = F Ẇ + ḃ,  Ġ = diag(u) H Ż,  Fᵀ Ġ.
Edges      A row that is not kept is 0 in everything, whatever its features. One that weighs
           nothing is kept: it adds 0, and derivatives in its weight are those of the formula.
Devices    Where the classes are spread over a mesh axis, W, b, t and w are those of this device,
           and every loss is its share: they add up to the loss, and gradients in what the devices
           have in common add up as well.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxsoftmax.autodiff import custom_rules, scaled

from .block import BlockGradients, BlockLosses, Losses, lies
from .problem import Rows, Settings, Shared, Tile
from .stats import no_tangent
from .stream import like, moving_leaves, stream
from .tiles import tiled

# ------------------------------------------------------------------------------------------------
# All rows
# ------------------------------------------------------------------------------------------------


def _stream_losses(
    shared: Shared, rows: Rows, settings: Settings, size: int, tile: Tile | None
) -> Losses:
    """L of every row."""
    body, size = tiled(BlockLosses(settings), shared, rows, size, tile)
    losses: Losses = stream(shared, rows._replace(weights=None), body=body, size=size)[1]
    return losses


def _stream_gradients(
    shared: Shared, rows: Rows, asked: Any, settings: Settings, size: int, tile: Tile | None
) -> tuple[Losses, tuple[Shared, Rows]]:
    """L of every row, and the gradient of Σ u L in what is asked for."""
    asked = asked[0], asked[1]._replace(weights=None)
    body, size = tiled(BlockGradients(settings, asked), shared, rows, size, tile)
    of_shared, (losses, of_rows) = stream(shared, rows, body=body, size=size)
    kernels = tuple(
        bar.T if bar is not None and lies(kernel) else bar
        for bar, kernel in zip(of_shared.kernels, shared.kernels, strict=True)
    )
    bars = of_shared._replace(kernels=kernels), of_rows
    return losses, jax.tree.map(like, (shared, rows), bars, is_leaf=lambda x: x is None)


def _times(losses: Array, weights: Array | None) -> Array:
    return losses if weights is None else scaled(losses, weights.astype(losses.dtype))


# ------------------------------------------------------------------------------------------------
# The loss of every row
# ------------------------------------------------------------------------------------------------


@custom_rules
def row_losses(
    shared: Shared, rows: Rows, *, settings: Settings, size: int, tile: Tile | None
) -> Losses:
    """u L of every row, (N,), in float32 or wider, and what else the rows tell."""
    losses, stats = _stream_losses(shared, rows, settings, size, tile)
    return _times(losses, rows.weights), stats


def _rows_fwd(shared: Shared, rows: Rows, *, perturbed: Any, **how: Any) -> tuple[Losses, Any]:
    return row_losses(shared, rows, **how), (shared, rows)


def _rows_jvp(
    saved: Any, *dots: Any, settings: Settings, perturbed: Any, **how: Any
) -> tuple[Array, Any]:
    shared, rows = saved
    bare = settings.without_stats()
    terms = []
    moves = perturbed[0], perturbed[1]._replace(weights=None)
    if any(jax.tree.leaves(moves)):
        values, of = moving_leaves(
            (shared, rows), moves, lambda a, x: _stream_losses(a, x, bare, **how)[0]
        )
        tangents = jax.tree.leaves((dots[0], dots[1]._replace(weights=None)))
        terms.append(_times(jax.jvp(of, values, tangents)[1], rows.weights))
    if perturbed[1].weights:
        losses = _stream_losses(shared, rows, bare, **how)[0]
        terms.append(scaled(losses, dots[1].weights.astype(losses.dtype)))
    losses_dot = functools.reduce(jnp.add, terms)
    return losses_dot, None if settings.without_stats() == settings else no_tangent()


def _rows_vjp(
    saved: Any, out_bar: tuple[Array, Any], *, settings: Settings, perturbed: Any, **how: Any
) -> tuple[Any, ...]:
    (shared, rows), bar = saved, out_bar[0]
    # Where the cotangent is 0 nothing is asked for, so nothing comes back, not even NaN.
    asked = bar != 0
    weighed = rows._replace(
        weights=_times(bar, rows.weights), keep=asked if rows.keep is None else asked & rows.keep
    )
    (losses, _), (shared_bar, rows_bar) = _stream_gradients(
        shared, weighed, perturbed, settings.without_stats(), **how
    )
    if perturbed[1].weights:
        rows_bar = rows_bar._replace(weights=scaled(losses, bar).astype(rows.weights.dtype))
    return shared_bar, rows_bar


row_losses.defrules(_rows_fwd, _rows_jvp, _rows_vjp, symbolic_zeros=True)


# ------------------------------------------------------------------------------------------------
# Their sum
# ------------------------------------------------------------------------------------------------


@custom_rules
def total_loss(
    shared: Shared, rows: Rows, *, settings: Settings, size: int, tile: Tile | None
) -> Losses:
    """Σ u L, in float32 or wider, and what else the rows tell."""
    losses, stats = row_losses(shared, rows, settings=settings, size=size, tile=tile)
    return jnp.sum(losses), stats


def _total_gradients(
    shared: Shared, rows: Rows, *, settings: Settings, perturbed: Any, **how: Any
) -> tuple[Losses, tuple[Shared, Rows]]:
    (losses, stats), bars = _stream_gradients(shared, rows, perturbed, settings, **how)
    total = jnp.sum(_times(losses, rows.weights))
    if perturbed[1].weights:
        bars = bars[0], bars[1]._replace(weights=losses.astype(rows.weights.dtype))
    return (total, stats), bars


total_loss.defgradients(_total_gradients, has_aux=True)
