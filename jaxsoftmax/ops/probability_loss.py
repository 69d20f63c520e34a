r"""Cross-entropy of probabilities and target distributions, on canonical arrays: the rules.

Notation   q probabilities, t targets, L loss; q̇, ṫ, L̇ tangents; q̄, t̄, L̄ cotangents;
           Σ over the class axis.
Primal     L = -Σ t log q
Gradient   -t / q
Hessian    diag(t / q²)
JVP        L̇ = -Σ (t / q)∘q̇ - Σ log q∘ṫ
VJP        q̄ = -(t / q) L̄,   t̄ = -log q L̄
Saved      q, t
Edges      t = 0 contributes 0 whatever q is, and its derivative is that of the formula;
           t > 0 at q = 0: +inf. NaN: NaN in its row.
Source     Shannon (1948), "A mathematical theory of communication"
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxsoftmax.autodiff import custom_rules, scaled


@custom_rules
def probability_loss(q: Array, t: Array, *, axis: int) -> Array:
    """L of every row, the class axis kept with length 1; q and t in float32 or wider."""
    return -jnp.sum(scaled(jnp.log(q), t), axis, keepdims=True)


def _fwd(q: Array, t: Array, *, axis: int) -> tuple[Array, tuple[Array, Array]]:
    return probability_loss(q, t, axis=axis), (q, t)


def _jvp(saved: tuple[Array, Array], q_dot: Array, t_dot: Array, *, axis: int) -> Array:
    q, t = saved
    terms = scaled(_ratio(t, q), q_dot) + scaled(jnp.log(q), t_dot)
    return -jnp.sum(terms, axis, keepdims=True)


def _vjp(saved: tuple[Array, Array], loss_bar: Array, *, axis: int) -> tuple[Array, Array]:
    del axis
    q, t = saved
    return -scaled(_ratio(t, q), loss_bar), -scaled(jnp.log(q), loss_bar)


probability_loss.defrules(_fwd, _jvp, _vjp)


def _ratio(t: Array, q: Array) -> Array:
    """t / q, 0 where t is 0."""
    return scaled(jnp.ones_like(q) / q, t)
