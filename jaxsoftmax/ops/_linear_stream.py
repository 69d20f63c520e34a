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

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxsoftmax.autodiff import custom_rules

from . import _arguments as arguments
from . import _numerics as numerics
from ._blocks import Flags, stream, varying_like
from ._distribution_loss import distribution_loss
from ._integer_loss import integer_loss
from ._loss_stats import LossStats, loss_stats, loss_stats_shares
from ._options import Options
from ._product import product, product_dtype
from ._spread import Names
from ._spread_loss import local_target, loss_share


class Problem(NamedTuple):
    """What the loss is differentiated in; the weights of the rows come beside it."""

    features: Any  # F
    kernel: Any  # W
    bias: Any  # b, or None
    labels: Any  # (N,) integer, or t (N, C)
    class_weights: Any  # (1, C), or None


class Masks(NamedTuple):
    """Boolean arrays, or None where all count."""

    classes: Array | None  # (1, C), the same in all rows
    entries: Array | None  # (N, C)
    keep: Array | None  # (N,)
    admissible: Array | None = None  # (N, 1), how many: the admissible classes of all devices


class Plan(NamedTuple):
    """The static options."""

    options: Options
    block: int  # rows in a block
    dtype: Any  # of the losses
    stats: bool  # whether LossStats come with them
    axis_name: Names | None  # along which the classes are spread: then all losses are shares


# Losses, and the statistics if the plan says so.
Losses = tuple[Array, LossStats | None]


# ------------------------------------------------------------------------------------------------
# One block of rows
# ------------------------------------------------------------------------------------------------


# Of the fields of Problem and of Masks, which have a row for each row.
_CUT = (True, False, False, True, False, False, True, True, True)


@dataclasses.dataclass(frozen=True)
class _Losses:
    """A block of rows -> its losses."""

    plan: Plan

    def __call__(self, *args: Any) -> tuple[None, tuple[Array, LossStats | None]]:
        problem, masks = Problem(*args[:5]), Masks(*args[5:])
        features = kept(problem.features, masks.keep)
        z = linear_logits(features, problem.kernel, problem.bias)
        losses = _losses(z, problem.labels, problem.class_weights, masks, self.plan)
        return None, (losses, _stats(z, problem.labels, masks, self.plan))


@dataclasses.dataclass(frozen=True)
class _Gradients:
    """A block of rows -> its losses, and the gradient of Σ u L in what is asked for."""

    plan: Plan
    asked: Problem

    def __call__(self, *args: Any) -> tuple[Problem, tuple[Losses, Problem]]:
        problem, masks, weights = Problem(*args[:5]), Masks(*args[5:9]), args[9]
        asked, features = self.asked, kept(problem.features, masks.keep)
        z = linear_logits(features, problem.kernel, problem.bias)
        others = {"labels": problem.labels, "class_weights": problem.class_weights}
        moving = {name: value for name, value in others.items() if getattr(asked, name)}

        def losses(z: Array, moving: dict[str, Array]) -> Array:
            return _losses(z, **(others | moving), masks=masks, plan=self.plan)

        loss, back = jax.vjp(losses, z, moving)
        g, bars = back(varying_like(weights, loss))
        f_bar, w_bar, b_bar = _linear_bars(g, features, problem.kernel, asked)
        shared = Problem(None, w_bar, b_bar, None, bars.get("class_weights"))
        out = loss, _stats(z, problem.labels, masks, self.plan)
        return shared, (out, Problem(f_bar, None, None, bars.get("labels"), None))


def _linear_bars(g: Array, features: Array, kernel: Array, asked: Problem) -> tuple[Any, Any, Any]:
    """F̄ = G Wᵀ, W̄ = Fᵀ G (or its transpose), b̄ = Σ G."""
    dtype = product_dtype(features.dtype, kernel.dtype)
    b_bar = jnp.sum(g, 0) if asked.bias else None
    unit = jnp.ones((), g.dtype)
    if dtype == jnp.float16:  # 1/N of a gradient may be less than float16 has
        largest = lax.stop_gradient(jnp.max(jnp.abs(g), initial=0))
        unit = jnp.where(largest > 0, largest, unit)
        g = g / unit
    f_bar = w_bar = None
    if asked.features:
        f_bar = (unit * product(g, kernel, over=(1, 1), dtype=dtype)).astype(features.dtype)
    if asked.kernel:
        pair = (g, features) if _lies(kernel) else (features, g)
        w_bar = unit * product(*pair, over=(0, 0), dtype=dtype)
    return f_bar, w_bar, b_bar


def _lies(kernel: Array) -> bool:
    """Whether W̄ᵀ = Gᵀ F is formed: on CPU it is 4 times faster than Fᵀ G for 10 classes of 784."""
    return kernel.shape[1] < kernel.shape[0]


def kept(features: Array, keep: Array | None) -> Array:
    """Features with 0 in the rows left out: their gradient is 0, and 0 times NaN would be NaN."""
    return (
        features if keep is None else jnp.where(keep[:, None], features, jnp.zeros_like(features))
    )


def linear_logits(features: Array, kernel: Array, bias: Array | None) -> Array:
    dtype = product_dtype(features.dtype, kernel.dtype)
    z = product(features, kernel, over=(1, 0), dtype=dtype)
    return z if bias is None else z + bias.astype(z.dtype)[None, :]


def _losses(
    z: Array, labels: Array, class_weights: Array | None, masks: Masks, plan: Plan
) -> Array:
    """L of every row of a block of logits."""
    options = plan.options
    x, mask, keep = _seen(z, masks, options)
    if plan.axis_name is not None:
        y = labels[:, None] if arguments.are_classes(labels) else labels
        t = local_target(y, x, mask, masks.admissible, class_weights, options, plan.axis_name)
        losses = loss_share(x, t, keep, z_loss=options.z_loss, axis_name=plan.axis_name)
    elif arguments.are_classes(labels):
        target = options.target(labels[:, None], x, mask, keep, class_weights, None, 1)
        losses = integer_loss(x, *target, axis=1, z_loss=options.z_loss)
    else:
        t = options.distribution(labels.astype(x.dtype), mask, class_weights, 1)
        losses = distribution_loss(x, t, keep, axis=1, z_loss=options.z_loss)
    return losses[:, 0]


def _stats(z: Array, labels: Array, masks: Masks, plan: Plan) -> LossStats | None:
    if not plan.stats:
        return None
    x, _, keep = _seen(z, masks, plan.options)
    labels = labels[:, None] if arguments.are_classes(labels) else labels
    if plan.axis_name is not None:
        return loss_stats_shares(x, labels, keep, plan.axis_name)
    return loss_stats(x, labels, keep)


def _seen(z: Array, masks: Masks, options: Options) -> tuple[Array, Array | None, Array | None]:
    """Logits as the loss sees them, the mask of the classes and that of the rows."""
    mask = masks.classes if masks.entries is None else masks.entries
    return options.logits(z, mask, 1)[0], mask, None if masks.keep is None else masks.keep[:, None]


# ------------------------------------------------------------------------------------------------
# All rows
# ------------------------------------------------------------------------------------------------


def _stream_losses(problem: Problem, masks: Masks, plan: Plan) -> Losses:
    losses: Losses = stream(*problem, *masks, body=_Losses(plan), cut=_CUT, size=plan.block)[1]
    return losses


def _stream_gradients(
    problem: Problem, masks: Masks, weights: Array, plan: Plan, asked: Flags
) -> tuple[Losses, Problem]:
    """L of every row, and the gradient of Σ u L in the arguments that are `asked` for."""
    body = _Gradients(plan, Problem(*asked))
    shared, (losses, own) = stream(
        *problem, *masks, weights, body=body, cut=(*_CUT, True), size=plan.block
    )
    if shared.kernel is not None and _lies(problem.kernel):
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
    return jnp.sum(numerics.scaled(losses, weights.astype(losses.dtype)))


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
    terms = [jnp.sum(numerics.wide(g) * numerics.wide(dot)) for g, dot in pairs]
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
        wide = numerics.wide(g)
        return numerics.scaled(wide, total_bar.astype(wide.dtype)).astype(g.dtype)

    bars = tuple(g if g is None else times_bar(g) for g in gradient)
    return (*bars, None)


total_loss.defrules(_total_fwd, _total_jvp, _total_vjp, symbolic_zeros=True)
