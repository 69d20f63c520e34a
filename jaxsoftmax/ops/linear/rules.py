r"""What linear classifiers tell of rows, a block of them at a time: the rules.

Notation   F features (N, D), W kernel (D, C), b bias (C,), Z = F W + b logits; u weight of a row;
           y = y(z, t) the values of a row: its loss L, or several numbers (`row_values` of logits);
           t what else they depend on: target distributions, class weights, a temperature.
Primal     rows: u y of every row                      total: Σ u L
Gradient   of Σ ⟨ȳ, y⟩:  G = (∂y/∂z)ᵀ ȳ,  F̄ = G Wᵀ,  W̄ = Fᵀ G,  b̄ = Σ_rows G,  t̄ as it comes
JVP        rows: u (∂y/∂z) Ż + u̇ y,  Ż = Ḟ W + F Ẇ + ḃ  total: Σ ⟨gradient, tangent⟩
VJP        rows: the gradient with u ȳ for ȳ, ū = ⟨ȳ, y⟩  total: that with u, times the cotangent
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
from jaxsoftmax.ops.row import xla

from .block import BlockGradients, BlockValues, Results, lies
from .problem import Rows, Settings, Shared, Tile
from .stream import like, moving_leaves, stream
from .tiles import tiled

# ------------------------------------------------------------------------------------------------
# All rows
# ------------------------------------------------------------------------------------------------


def _stream_values(
    shared: Shared,
    rows: Rows,
    settings: Settings,
    size: int,
    tile: Tile | None,
    live: Array | None = None,
) -> Results:
    """y of every row, or of every live one."""
    body, size = tiled(BlockValues(settings), shared, rows, size, tile)
    rows = rows._replace(weights=None)
    results: Results = stream(shared, rows, live, body=body, size=size)[1]
    return results


def _stream_gradients(
    shared: Shared,
    rows: Rows,
    bars: Any,
    asked: Any,
    settings: Settings,
    size: int,
    tile: Tile | None,
) -> tuple[Results, tuple[Shared, Rows]]:
    """y of every row, and the gradient of Σ ⟨ȳ, y⟩ in what is asked for."""
    live = _live(shared, rows, None if asked[1].weights else _any(bars))
    asked = asked[0], asked[1]._replace(weights=None)
    rows = rows._replace(weights=None)
    body, size = tiled(BlockGradients(settings, asked), shared, rows, size, tile)
    of_shared, (results, of_rows) = stream(shared, (rows, bars), live, body=body, size=size)
    kernels = tuple(
        xla.stored(bar).T if bar is not None and lies(kernel) else bar
        for bar, kernel in zip(of_shared.kernels, shared.kernels, strict=True)
    )
    gradients = of_shared._replace(kernels=kernels), of_rows
    return results, jax.tree.map(like, (shared, rows), gradients, is_leaf=lambda x: x is None)


# Of fewer classes a row costs about as much as to look for those that are live.
_MANY_CLASSES = 256


def _live(shared: Shared, rows: Rows, wanted: Array | None) -> Array | None:
    """Rows that count and are wanted, or None for all."""
    masks = [mask for mask in (rows.keep, wanted) if mask is not None]
    if not masks or shared.kernels[0].shape[1] < _MANY_CLASSES:
        return None
    return functools.reduce(jnp.logical_and, masks)


def _any(values: Any) -> Array:
    """Rows of which a value is not 0."""
    return _of_each_row(jax.tree.map(lambda y: y != 0, values)) > 0


def _times(values: Any, weights: Array | None) -> Any:
    """Values (N,) or (N, K), each times the weight of its row."""
    if weights is None:
        return values
    return jax.tree.map(lambda y: scaled(y, _in_rows(weights, y)), values)


def _in_rows(weights: Array, y: Array) -> Array:
    """Weights (N,) in the dtype and with the dimensions of `y`."""
    return jnp.expand_dims(weights, tuple(range(1, y.ndim))).astype(y.dtype)


def _of_each_row(values: Any) -> Array:
    """The sum of all values that a row has, (N,)."""
    sums = (jnp.sum(y, tuple(range(1, y.ndim))) for y in jax.tree.leaves(values))
    return functools.reduce(jnp.add, sums)


# ------------------------------------------------------------------------------------------------
# The values of every row
# ------------------------------------------------------------------------------------------------


@custom_rules
def row_values(
    shared: Shared, rows: Rows, *, settings: Settings, size: int, tile: Tile | None
) -> Results:
    """u y of every row, (N,) or (N, K), in float32 or wider, and what else the rows tell."""
    wanted = None if rows.weights is None else rows.weights != 0
    live = _live(shared, rows, wanted)
    values, others = _stream_values(shared, rows, settings, size, tile, live)
    return _times(values, rows.weights), others


def _rows_fwd(shared: Shared, rows: Rows, *, perturbed: Any, **how: Any) -> tuple[Results, Any]:
    return row_values(shared, rows, **how), (shared, rows)


def _rows_jvp(
    saved: Any, *dots: Any, settings: Settings, perturbed: Any, **how: Any
) -> tuple[Any, Any]:
    shared, rows = saved
    bare = settings.without_stats()
    terms = []
    moves = perturbed[0], perturbed[1]._replace(weights=None)
    if any(jax.tree.leaves(moves)):
        arguments, of = moving_leaves(
            (shared, rows), moves, lambda a, x: _stream_values(a, x, bare, **how)[0]
        )
        tangents = jax.tree.leaves((dots[0], dots[1]._replace(weights=None)))
        terms.append(_times(jax.jvp(of, arguments, tangents)[1], rows.weights))
    if perturbed[1].weights:
        values = _stream_values(shared, rows, bare, **how)[0]
        terms.append(_times(values, dots[1].weights))
    return jax.tree.map(lambda *each: functools.reduce(jnp.add, each), *terms), settings.no_tangent


def _rows_vjp(
    saved: Any, out_bar: tuple[Any, Any], *, settings: Settings, perturbed: Any, **how: Any
) -> tuple[Any, ...]:
    (shared, rows), bars = saved, out_bar[0]
    # Where the cotangent is 0 nothing is asked for, so nothing comes back, not even NaN.
    asked = _any(bars)
    keep = asked if rows.keep is None else asked & rows.keep
    (values, _), (shared_bar, rows_bar) = _stream_gradients(
        shared,
        rows._replace(keep=keep),
        _times(bars, rows.weights),
        perturbed,
        settings.without_stats(),
        **how,
    )
    if perturbed[1].weights:
        of_weights = _of_each_row(jax.tree.map(scaled, values, bars))
        rows_bar = rows_bar._replace(weights=of_weights.astype(rows.weights.dtype))
    return shared_bar, rows_bar


row_values.defrules(_rows_fwd, _rows_jvp, _rows_vjp, symbolic_zeros=True)


# ------------------------------------------------------------------------------------------------
# The sum of losses
# ------------------------------------------------------------------------------------------------


@custom_rules
def total_loss(
    shared: Shared, rows: Rows, *, settings: Settings, size: int, tile: Tile | None
) -> Results:
    """Σ u L, in float32 or wider, and what else the rows tell."""
    losses, stats = row_values(shared, rows, settings=settings, size=size, tile=tile)
    return jnp.sum(losses), stats


def _total_gradients(
    shared: Shared, rows: Rows, *, settings: Settings, perturbed: Any, **how: Any
) -> tuple[Results, tuple[Shared, Rows]]:
    weights = rows.weights.astype(settings.dtype)
    (losses, stats), bars = _stream_gradients(shared, rows, weights, perturbed, settings, **how)
    if perturbed[1].weights:
        bars = bars[0], bars[1]._replace(weights=losses.astype(rows.weights.dtype))
    return (jnp.sum(_times(losses, weights)), stats), bars


total_loss.defgradients(_total_gradients, has_aux=True)
