r"""The linear classifier loss on canonical arrays, a block of rows at a time: the rules.

Notation   F features (N, D), W kernel (D, C), b bias (C,), Z = F W + b logits; u weight of a row;
           L loss of a row of Z, g = ∂L/∂z (`_integer_loss`, `_distribution_loss`);
           t, w what else L depends on: target distributions, class weights.
Primal     rows: L of every row                        total: Σ u L
Gradient   G = diag(u) g:  F̄ = G Wᵀ,  W̄ = Fᵀ G,  b̄ = Σ_rows G,  ū = L,  t̄ and w̄ as they come
JVP        rows: L̇ = Σ g∘Ż,  Ż = Ḟ W + F Ẇ + ḃ         total: Σ ⟨gradient, tangent⟩
VJP        rows: the gradient with u = L̄               total: the gradient times the cotangent
Saved      rows: the arguments                         total: the gradients that are asked for
Work       A product is 2NDC flops. Evaluation: Z. Total with derivatives: Z, and F̄ and W̄ where
           they are asked for. Rows: the same, and Z once more.
Order 2    by differentiating the gradient, block by block. Z is linear, so a Hessian product in
           (W, b) is that of the Gauss-Newton matrix: Ż = F Ẇ + ḃ,  Ġ = diag(u) H Ż,  Fᵀ Ġ.
Edges      A row that is not kept is 0 in everything, whatever its features.
Devices    Where the classes are spread over a mesh axis, W, b, t and w are those of this device,
           and every loss is its share: they add up to the loss, and gradients in what the devices
           have in common add up as well.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsoftmax.autodiff import custom_rules, scaled

from ._blocks import Flags, stream
from ._linear_block import CUT, BlockGradients, BlockLosses, Losses, Masks, Plan, Problem, lies
from ._linear_tiles import tiled
from ._loss_stats import LossStats
from .row.exponentials import wide

# ------------------------------------------------------------------------------------------------
# All rows
# ------------------------------------------------------------------------------------------------


def _stream_losses(problem: Problem, masks: Masks, plan: Plan) -> Losses:
    body, size = tiled(BlockLosses(plan), problem)
    losses: Losses = stream(*problem, *masks, body=body, cut=CUT, size=size)[1]
    return losses


def _stream_gradients(
    problem: Problem, masks: Masks, weights: Array, plan: Plan, asked: Flags
) -> tuple[Losses, Problem]:
    """L of every row, and the gradient of Σ u L in the arguments that are `asked` for."""
    body, size = tiled(BlockGradients(plan, Problem(*asked)), problem)
    shared, (losses, own) = stream(
        *problem, *masks, weights, body=body, cut=(*CUT, True), size=size
    )
    if shared.kernel is not None and lies(problem.kernel):
        shared = shared._replace(kernel=shared.kernel.T)
    bars = (own if total is None else total for total, own in zip(shared, own, strict=True))
    return losses, Problem(
        *(bar if bar is None else bar.astype(x.dtype) for x, bar in zip(problem, bars, strict=True))
    )


# ------------------------------------------------------------------------------------------------
# The loss of every row
# ------------------------------------------------------------------------------------------------


@custom_rules
def row_losses(
    features: Array,
    kernel: Array,
    bias: Array | None,
    labels: Array,
    class_weights: Array | None,
    masks: Masks,
    *,
    plan: Plan,
) -> Losses:
    """L of every row, (N,), in float32 or wider, and what else the rows tell."""
    problem = Problem(features, kernel, bias, labels, class_weights)
    return _stream_losses(problem, masks, plan)


def _no_stats(plan: Plan) -> Any:
    """The tangent of the statistics."""
    return LossStats(*[None] * 4) if plan.stats else None  # type: ignore[arg-type]


class _Saved(NamedTuple):
    problem: Problem
    masks: Masks


def _rows_fwd(*args: Any, plan: Plan, perturbed: Flags) -> tuple[Losses, _Saved]:
    *problem, masks = args
    return row_losses(*args, plan=plan), _Saved(Problem(*problem), masks)


def _rows_jvp(saved: _Saved, *dots: Any, plan: Plan, perturbed: Flags) -> tuple[Array, Any]:
    problem, masks = saved
    bare = plan._replace(stats=False)

    def losses(moving: dict[str, Any]) -> Array:
        return _stream_losses(problem._replace(**moving), masks, bare)[0]

    tangents = {n: d for n, d in zip(Problem._fields, dots, strict=False) if d is not None}
    primals = {name: getattr(problem, name) for name in tangents}
    losses_dot: Array = jax.jvp(losses, (primals,), (tangents,))[1]
    return losses_dot, _no_stats(plan)


def _rows_vjp(
    saved: _Saved, out_bar: tuple[Array, Any], *, plan: Plan, perturbed: Flags
) -> tuple[Any, ...]:
    losses_bar, _ = out_bar
    bare = plan._replace(stats=False)
    # Where the cotangent is 0 nothing is asked for, so nothing comes back, not even NaN.
    keep = losses_bar != 0
    keep = keep if saved.masks.keep is None else keep & saved.masks.keep
    masks = saved.masks._replace(keep=keep)
    _, gradient = _stream_gradients(saved.problem, masks, losses_bar, bare, perturbed[:5])
    return (*gradient, None)


row_losses.defrules(_rows_fwd, _rows_jvp, _rows_vjp, symbolic_zeros=True)


# ------------------------------------------------------------------------------------------------
# Their weighted sum
# ------------------------------------------------------------------------------------------------


@custom_rules
def total_loss(
    features: Array,
    kernel: Array,
    bias: Array | None,
    labels: Array,
    class_weights: Array | None,
    weights: Array,
    masks: Masks,
    *,
    plan: Plan,
) -> Losses:
    """Σ u L, in float32 or wider, and what else the rows tell."""
    losses, stats = row_losses(features, kernel, bias, labels, class_weights, masks, plan=plan)
    return _total(losses, weights), stats


def _total(losses: Array, weights: Array) -> Array:
    return jnp.sum(scaled(losses, weights.astype(losses.dtype)))


def _total_fwd(*args: Any, plan: Plan, perturbed: Flags) -> tuple[Losses, tuple[Any, ...]]:
    *problem, weights, masks = args
    (losses, stats), gradient = _stream_gradients(
        Problem(*problem), masks, weights, plan, perturbed[:5]
    )
    weights_bar = losses.astype(weights.dtype) if perturbed[5] else None
    return (_total(losses, weights), stats), (*gradient, weights_bar)


def _total_jvp(
    gradient: tuple[Any, ...], *dots: Any, plan: Plan, perturbed: Flags
) -> tuple[Array, Any]:
    pairs = [(g, dot) for g, dot in zip(gradient, dots, strict=False) if dot is not None]
    terms = [jnp.sum(wide(g) * wide(dot)) for g, dot in pairs]
    total_dot = functools.reduce(jnp.add, (term.astype(plan.dtype) for term in terms))
    return total_dot, _no_stats(plan)


def _total_vjp(
    gradient: tuple[Any, ...],
    out_bar: tuple[Array, Any],
    *,
    plan: Plan,
    perturbed: Flags,
) -> tuple[Any, ...]:
    total_bar, _ = out_bar

    def times_bar(g: Array) -> Array:
        g_wide = wide(g)
        return scaled(g_wide, total_bar.astype(g_wide.dtype)).astype(g.dtype)

    bars = tuple(g if g is None else times_bar(g) for g in gradient)
    return (*bars, None)


total_loss.defrules(_total_fwd, _total_jvp, _total_vjp, symbolic_zeros=True)
