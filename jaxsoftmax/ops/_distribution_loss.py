r"""Cross-entropy of logits and target distributions, on canonical arrays: the rules.

Notation   x logits, ℓ = log_softmax(x), p = exp ℓ, s = logsumexp(x); t targets, T = Σt; L loss;
           ẋ, ṫ, L̇ tangents; x̄, t̄, L̄ cotangents; Σ over the class axis.
Primal     L = -Σ t∘ℓ + λ s²
Gradient   g = T p - t + 2λ s p
Hessian    (T + 2λ s) (diag(p) - p pᵀ) + 2λ p pᵀ
JVP        L̇ = Σ g∘ẋ - Σ ℓ∘ṫ
VJP        x̄ = g L̄,   t̄ = -ℓ L̄
Saved      g; -ℓ where the targets are differentiated
Edges      t = 0 where ℓ = -inf contributes 0, t > 0 there +inf. Targets need not sum to 1. Rows
           that are not kept: 0 in everything. NaN or +inf in the logits: NaN in its row.
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


@custom_rules
def distribution_loss(x: Array, t: Array, keep: Array | None, *, axis: int, z_loss: float) -> Array:
    """L of every row, in float32 or wider as t is, the class axis kept with length 1."""
    x, t = numerics.stored(_seen(x, keep)), numerics.stored(t)
    row = rows.statistics(x, numerics.wide(numerics.row_max(x, (axis,))), axis)
    return _loss(x, t, keep, row, axis, z_loss)


def _loss(x: Array, t: Array, keep: Array | None, row: rows.Row, axis: int, z_loss: float) -> Array:
    """L from what is known of the row."""
    loss = rows.cross_entropy(t, x, row.max, row.log_total, axis, masked=keep is not None)
    if z_loss:
        loss = loss + jnp.asarray(z_loss, loss.dtype) * jnp.square(row.max + row.log_total)
    return loss if keep is None else jnp.where(keep, loss, jnp.zeros_like(loss))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _value_and_gradient(
    axis: int, z_loss: float, x: Array, t: Array, keep: Array | None
) -> tuple[Array, Array, Array, Array]:
    """L and g, from one set of statistics; m and p / exp(x - M), which carry no derivative."""
    x = numerics.stored(_seen(x, keep))
    row = rows.statistics(x, numerics.wide(numerics.row_max(x, (axis,))), axis)
    others = rows.sum_without(t, row.main, axis)
    mass = others + rows.at(t, row.main, axis)
    loss = _loss(x, t, keep, row, axis, z_loss)

    # g = T p - t + 2λ s p. At the main class k T p_k - t_k may be the small difference of large
    # terms; Σ of the other t - T (1 - p_k) is the same without it.
    scale = jnp.ones_like(row.total) / row.total
    p = numerics.exponentials(x, row.max) * scale
    at_main = others - mass * (row.others / row.total)
    g = jnp.where(numerics.is_class(row.main, x, axis), at_main, mass * p - t)
    if z_loss:
        g = g + jnp.asarray(2 * z_loss, g.dtype) * (row.max + row.log_total) * p
    return loss, g if keep is None else jnp.where(keep, g, jnp.zeros_like(g)), row.max, scale


@_value_and_gradient.defjvp
def _value_and_gradient_jvp(
    axis: int, z_loss: float, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    """The values above, the derivative of the formulas they stand for."""
    x, t, keep = primals
    loss, g, m, scale = _value_and_gradient(axis, z_loss, *primals)

    def formulas(x: Array, t: Array) -> tuple[Array, Array]:
        loss = distribution_loss(x, t, keep, axis=axis, z_loss=z_loss)
        seen = _seen(x, keep)
        factor = jnp.sum(t, axis, keepdims=True)
        if z_loss:
            s = logsumexp(numerics.wide(seen), axis, keepdims=True)
            factor = factor + jnp.asarray(2 * z_loss, m.dtype) * s
        g = factor * probabilities(Kept(seen, numerics.stored(m), scale), axis) - t
        return loss, g if keep is None else jnp.where(keep, g, jnp.zeros_like(g))

    loss_dot, g_dot = jax.jvp(formulas, (x, t), tangents[:2])[1]
    none = jnp.zeros_like(m)
    return (loss, g, m, scale), (loss_dot, g_dot, none, none)


def _seen(x: Array, keep: Array | None) -> Array:
    """x with zeros in the rows that are not kept, which may hold anything."""
    return x if keep is None else jnp.where(keep, x, jnp.zeros_like(x))


class _Saved(NamedTuple):
    gradient: Array
    minus_log_p: Array | None
    dtype: numerics.DType  # of the logits


def _fwd(
    x: Array,
    t: Array,
    keep: Array | None,
    *,
    axis: int,
    z_loss: float,
    perturbed: tuple[bool, ...],
) -> tuple[Array, _Saved]:
    loss, gradient, _, _ = _value_and_gradient(axis, z_loss, x, t, keep)
    minus_log_p = -log_softmax(numerics.wide(_seen(x, keep)), axis) if perturbed[1] else None
    if minus_log_p is not None and keep is not None:
        minus_log_p = jnp.where(keep, minus_log_p, jnp.zeros_like(minus_log_p))
    return loss, _Saved(gradient, minus_log_p, numerics.DType(x.dtype.name))


def _jvp(
    saved: _Saved,
    x_dot: Array | None,
    t_dot: Array | None,
    keep_dot: None,
    *,
    axis: int,
    **_: Any,
) -> Array:
    terms = []
    if x_dot is not None:
        terms.append(jnp.sum(saved.gradient * numerics.wide(x_dot), axis, keepdims=True))
    if t_dot is not None and saved.minus_log_p is not None:
        product = numerics.scaled(saved.minus_log_p, t_dot)
        terms.append(jnp.sum(product, axis, keepdims=True))
    return functools.reduce(jnp.add, terms)


def _vjp(saved: _Saved, loss_bar: Array, **_: Any) -> tuple[Array, Array | None, None]:
    x_bar = saved.dtype.of(numerics.scaled(saved.gradient, loss_bar))
    t_bar = None if saved.minus_log_p is None else numerics.scaled(saved.minus_log_p, loss_bar)
    return x_bar, t_bar, None


distribution_loss.defrules(_fwd, _jvp, _vjp, symbolic_zeros=True)
