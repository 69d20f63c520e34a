r"""Cross-entropy of logits and class labels, on canonical arrays: the rules.

Notation   x logits, ℓ = log_softmax(x), p = exp ℓ, s = logsumexp(x); y label; L loss;
           ẋ, L̇ tangents; x̄, L̄ cotangents; Σ over the class axis.
Target     t = β e_y + α, T = Σt. Without label smoothing α = 0; without class weights β = 1.
Primal     L = -β ℓ_y - Σ α∘ℓ + λ s²
Gradient   g = T p - t + 2λ s p
Hessian    (T + 2λ s) (diag(p) - p pᵀ) + 2λ p pᵀ
JVP        L̇ = Σ g∘ẋ - ℓ_y β̇ - Σ ℓ∘α̇
VJP        x̄ = g L̄,  β̄ = -ℓ_y L̄,  ᾱ = -ℓ L̄
Saved      g; -ℓ_y and -ℓ where β and α are differentiated
Edges      a label outside [0, C): NaN, in its row. A label of probability 0: L = +inf. Rows that
           are not kept: 0 in everything. NaN or +inf in the logits: NaN in its row.
Source     z-loss: Chowdhery et al., arXiv:2204.02311, section 5
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsoftmax.autodiff import custom_rules

from . import _numerics as numerics
from . import _rows as rows
from ._log_softmax import log_softmax
from ._logsumexp import logsumexp
from ._probabilities import Kept, probabilities


class Target(NamedTuple):
    """t = β e_y + α of every row, and which rows count."""

    label: Array  # y, integer, class axis of length 1
    beta: Array | None = None  # β, class axis of length 1; None means 1
    alpha: Array | None = None  # α, the shape of the logits; None means 0
    keep: Array | None = None  # boolean, class axis of length 1; None means all


@custom_rules
def integer_loss(
    x: Array,
    label: Array,
    beta: Array | None,
    alpha: Array | None,
    keep: Array | None,
    *,
    axis: int,
    z_loss: float,
) -> Array:
    """L of every row, in float32 or wider, the class axis kept with length 1."""
    x = numerics.stored(x)
    target = Target(label, beta, alpha, keep)
    m = numerics.wide(numerics.row_max(x, (axis,)))
    row = _row(x, m, rows.exponentials_without(x, m, label, axis), target, axis)
    return _total(x, target, row, axis, z_loss)


class _Row(NamedTuple):
    """What a row's loss and gradient are made of."""

    m: Array
    log_total: Array  # log S, S = Σ exp(x - m)
    nll: Array  # -ℓ_y
    label: Array  # p_y
    others: Array  # 1 - p_y
    scale: Array  # p / exp(x - M)


def _row(x: Array, m: Array, r: Array, target: Target, axis: int) -> _Row:
    """From r, the sum of exp(x - M) over all classes but the label."""
    zero, one = jnp.zeros((), m.dtype), jnp.ones((), m.dtype)
    x_y = numerics.bounded(numerics.pick(x, target.label, axis), m)
    if target.keep is not None:  # what does not count may be NaN, and must not be seen again
        m, r, x_y = (jnp.where(target.keep, value, zero) for value in (m, r, x_y))
    e_y = numerics.exponentials(x_y, m)
    largest = numerics.largest_exponential(m)
    total = jnp.maximum(r + e_y, largest)
    log_total = jnp.log(total / largest)
    # -ℓ_y = log(1 + r / e_y): accurate when the label is likely, and e_y > 0 there.
    # -ℓ_y = (m - x_y) + log S: accurate when it is not, and both terms are >= 0.
    below = m - x_y
    near = numerics.exponentials(jnp.maximum(x_y, m - one), m)
    nll = jnp.where(below < one, jnp.log1p(r / near), below + log_total)
    return _Row(m, log_total, nll, e_y / total, r / total, one / total)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _value_and_gradient(
    axis: int,
    z_loss: float,
    x: Array,
    label: Array,
    beta: Array | None,
    alpha: Array | None,
    keep: Array | None,
) -> tuple[Array, Array, Array, Array]:
    """L and g, from one set of exponentials; m and p / exp(x - M), which carry no derivative."""
    x = numerics.stored(x)
    m = numerics.wide(numerics.row_max(x, (axis,)))
    is_label = numerics.is_class(label, x, axis)
    zero, one = jnp.zeros((), m.dtype), jnp.ones((), m.dtype)

    # r = S - e_y, what is left of the loss when the prediction is confident. The label is left out
    # before the sum, where the select fuses with the exponential and g needs the result anyway.
    left_out = is_label if keep is None else is_label | ~keep
    e = jnp.where(left_out, zero, numerics.exponentials(x, m))
    target = Target(label, beta, alpha, keep)
    row = _row(x, m, jnp.sum(e, axis, keepdims=True), target, axis)
    loss = _total(x, target, row, axis, z_loss)

    # g = T p - t + 2λ s p, where at the label T p_y - t_y = Σ of the other α - T (1 - p_y).
    mass = one if beta is None else beta
    others = spread = zero
    if alpha is not None:
        spread = alpha
        others = jnp.sum(jnp.where(is_label, zero, spread), axis, keepdims=True)
        mass = mass + jnp.sum(spread, axis, keepdims=True)
    pull = jnp.asarray(2 * z_loss, m.dtype) * (row.m + row.log_total) if z_loss else zero
    at_label = others - mass * row.others + pull * row.label
    elsewhere = e * ((mass + pull) * row.scale) - spread
    g = jnp.where(is_label, at_label, elsewhere)
    return loss, g if keep is None else jnp.where(keep, g, zero), row.m, row.scale


@_value_and_gradient.defjvp
def _value_and_gradient_jvp(
    axis: int, z_loss: float, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    """The values above, the derivative of the formulas they stand for."""
    x, label, beta, alpha, keep = primals
    loss, g, m, scale = _value_and_gradient(axis, z_loss, *primals)

    def formulas(x: Array, beta: Array | None, alpha: Array | None) -> tuple[Array, Array]:
        loss = integer_loss(x, label, beta, alpha, keep, axis=axis, z_loss=z_loss)
        seen = x if keep is None else jnp.where(keep, x, jnp.zeros_like(x))
        t = numerics.is_class(label, x, axis).astype(m.dtype)
        factor = jnp.where(numerics.exists(label, x, axis), jnp.ones_like(m), jnp.nan)
        if beta is not None:
            t, factor = beta * t, beta * factor
        if alpha is not None:
            t, factor = t + alpha, factor + jnp.sum(alpha, axis, keepdims=True)
        if z_loss:
            s = logsumexp(numerics.wide(seen), axis, keepdims=True)
            factor = factor + jnp.asarray(2 * z_loss, m.dtype) * s
        g = factor * probabilities(Kept(seen, numerics.stored(m), scale), axis) - t
        return loss, g if keep is None else jnp.where(keep, g, jnp.zeros_like(g))

    moving = (x, beta, alpha), (tangents[0], tangents[2], tangents[3])
    loss_dot, g_dot = jax.jvp(formulas, *moving)[1]
    none = jnp.zeros_like(m)
    return (loss, g, m, scale), (loss_dot, g_dot, none, none)


def _total(x: Array, target: Target, row: _Row, axis: int, z_loss: float) -> Array:
    """L from what is known of the row."""
    loss = row.nll if target.beta is None else target.beta * row.nll
    if target.alpha is not None:
        masked = target.keep is not None
        rest = rows.cross_entropy(target.alpha, x, row.m, row.log_total, axis, masked=masked)
        loss = loss + rest
    if z_loss:
        loss = loss + jnp.asarray(z_loss, loss.dtype) * jnp.square(row.m + row.log_total)
    return loss if target.keep is None else jnp.where(target.keep, loss, jnp.zeros_like(loss))


class _Saved(NamedTuple):
    gradient: Array
    nll: Array | None  # -ℓ_y
    minus_log_p: Array | None  # -ℓ
    dtype: numerics.DType  # of the logits


def _fwd(
    x: Array,
    label: Array,
    beta: Array | None,
    alpha: Array | None,
    keep: Array | None,
    *,
    axis: int,
    z_loss: float,
    perturbed: tuple[bool, ...],
) -> tuple[Array, _Saved]:
    loss, gradient, _, _ = _value_and_gradient(axis, z_loss, x, label, beta, alpha, keep)
    nll = minus_log_p = None
    if perturbed[2]:
        nll = integer_loss(x, label, None, None, keep, axis=axis, z_loss=0.0)
    if perturbed[3]:
        minus_log_p = -log_softmax(numerics.wide(x), axis)
        if keep is not None:
            minus_log_p = jnp.where(keep, minus_log_p, jnp.zeros_like(minus_log_p))
    return loss, _Saved(gradient, nll, minus_log_p, numerics.DType(x.dtype.name))


def _jvp(
    saved: _Saved,
    x_dot: Array | None,
    label_dot: None,
    beta_dot: Array | None,
    alpha_dot: Array | None,
    keep_dot: None,
    *,
    axis: int,
    **_: Any,
) -> Array:
    terms = []
    if x_dot is not None:
        terms.append(jnp.sum(saved.gradient * numerics.wide(x_dot), axis, keepdims=True))
    if beta_dot is not None and saved.nll is not None:
        terms.append(saved.nll * beta_dot)
    if alpha_dot is not None and saved.minus_log_p is not None:
        product = numerics.scaled(saved.minus_log_p, alpha_dot)
        terms.append(jnp.sum(product, axis, keepdims=True))
    return functools.reduce(jnp.add, terms)


def _vjp(saved: _Saved, loss_bar: Array, *, axis: int, **_: Any) -> tuple[Array | None, ...]:
    x_bar = saved.dtype.of(numerics.scaled(saved.gradient, loss_bar))
    beta_bar = None if saved.nll is None else saved.nll * loss_bar
    alpha_bar = None if saved.minus_log_p is None else saved.minus_log_p * loss_bar
    return x_bar, None, beta_bar, alpha_bar, None


integer_loss.defrules(_fwd, _jvp, _vjp, symbolic_zeros=True)
