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
Devices    Where the classes are `Spread` L is a share: each device has that of its own classes, and
           the first that of s.
Source     z-loss: Chowdhery et al., arXiv:2204.02311, section 5
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxsoftmax.autodiff import Recomputed, custom_rules, differentiates_as, scaled
from jaxsoftmax.autodiff.select import select

from . import row as rows
from .devices.classes import Classes
from .log_softmax import Given, log_softmax_given
from .probabilities import Kept, plain_logsumexp, probabilities
from .row import Row, xla
from .row.exponentials import exponentials, is_class, wide, zero_where_dropped


@custom_rules
def distribution_loss(
    x: Array, t: Array, keep: Array | None, *, classes: Classes, z_loss: float
) -> Array:
    """L of every row, in float32 or wider, the class axis kept with length 1."""
    if keep is None and not z_loss:
        loss: Array = classes.fused("distribution_loss", _known, x, t)[0]
        return loss
    t = _like_sums(t, x)
    x, t = xla.stored(zero_where_dropped(x, keep)), xla.stored(t)
    return _loss(x, t, keep, classes.statistics(x, classes.max(x)), classes, z_loss)


def _loss(
    x: Array, t: Array, keep: Array | None, row: Row, classes: Classes, z_loss: float
) -> Array:
    ask = keep is None and classes.may_ask(x)
    loss = rows.cross_entropy(t, x, row.max, row.excess, classes.axis, ask=ask)
    if z_loss:
        penalty = jnp.asarray(z_loss, loss.dtype) * jnp.square(row.max + row.excess)
        loss = loss + classes.first(penalty)
    return zero_where_dropped(loss, keep)


def _like_sums(t: Array, x: Array) -> Array:
    """Targets in the dtype that arithmetic is done in."""
    return t.astype(jax.eval_shape(wide, x).dtype)


def _textbook(
    value: Any, x: Array, t: Array, keep: Array | None, *, classes: Classes, z_loss: float
) -> tuple[Array, Array, Given]:
    """L, and g = T p - t + 2λ s p."""
    given = value[2]
    m = xla.stored(given.max)
    loss = distribution_loss(x, t, keep, classes=classes, z_loss=z_loss)
    t = _like_sums(t, x)
    x, t = (zero_where_dropped(value, keep) for value in (x, t))
    (mass,) = classes.sums(t)
    if z_loss:
        mass = mass + jnp.asarray(2 * z_loss, m.dtype) * plain_logsumexp(x, m, classes)
    g = mass * probabilities(Kept(x, m, given.scale), classes) - t
    return loss, zero_where_dropped(g, keep), given


@differentiates_as(_textbook, given_value=True)
def _loss_and_gradient(
    x: Array, t: Array, keep: Array | None, *, classes: Classes, z_loss: float
) -> tuple[Array, Array, Given]:
    """L and g, and what is known of the rows, from one set of statistics."""
    t = _like_sums(t, x)
    x = xla.stored(zero_where_dropped(x, keep))
    row, top, others = classes.statistics_and_split(x, classes.max(x), t)
    mass = others + top
    loss = _loss(x, t, keep, row, classes, z_loss)

    # g = T p - t + 2λ s p. At the main class k T p_k - t_k may be the small difference of large
    # terms; Σ of the other t - T (1 - p_k) is the same without it.
    scale = jnp.ones_like(row.total) / row.total
    p = exponentials(x, row.max) * scale
    share = row.others / row.total
    at_main = others - mass * share
    g = select(is_class(row.main, x, classes.axis), at_main, mass * p - t)
    if z_loss:
        g = g + jnp.asarray(2 * z_loss, g.dtype) * (row.max + row.excess) * p
    given = Given(row.max, row.excess, scale, row.main, share)
    return loss, zero_where_dropped(g, keep), given


# ------------------------------------------------------------------------------------------------
# Without options: g L̄ is formed from numbers of the rows when L̄ is known
# ------------------------------------------------------------------------------------------------


def _known(x: Array, t: Array, *, classes: Classes) -> tuple[Array, ...]:
    """L, m, p / exp(x - M), T, the main class k, T p_k - t_k, log Σ exp(x - m), 1 - p_k."""
    x, t = xla.stored(x), xla.stored(_like_sums(t, x))
    row, top, others = classes.statistics_and_split(x, classes.max(x), t)
    mass = others + top
    share = row.others / row.total
    known = row.max, jnp.ones_like(row.total) / row.total, mass, row.main, others - mass * share
    return _loss(x, t, None, row, classes, 0.0), *known, row.excess, share


def _known_textbook(value: Any, x: Array, t: Array, *, classes: Classes) -> Any:
    return distribution_loss(x, t, None, classes=classes, z_loss=0.0), *value[1:]


@differentiates_as(_known_textbook, given_value=True)
def _loss_and_known(x: Array, t: Array, *, classes: Classes) -> Any:
    return classes.fused("distribution_loss", _known, x, t)


def _pulled(x: Array, t: Array, *known: Array, classes: Classes) -> Array:
    """g L̄, from what is known of the rows."""
    m, scale, mass, main, at_main, bar = known
    elsewhere = mass * (exponentials(xla.stored(x), m) * scale) - _like_sums(t, x)
    g = select(is_class(main, x, classes.axis), at_main, elsewhere)
    return scaled(g, bar).astype(x.dtype)


def _pulled_textbook(x: Array, t: Array, *known: Array, classes: Classes) -> Array:
    """(T p - t) L̄."""
    m, scale, *_, bar = known
    m, t = xla.stored(m), _like_sums(t, x)
    (mass,) = classes.sums(t)
    return scaled(mass * probabilities(Kept(x, m, scale), classes) - t, bar).astype(x.dtype)


@differentiates_as(_pulled_textbook)
def _gradient_times(*arrays: Array, classes: Classes) -> Array:
    product: Array = classes.fused("distribution_gradient", _pulled, *arrays)
    return product


# ------------------------------------------------------------------------------------------------


def _gradients(
    x: Array,
    t: Array,
    keep: Array | None,
    *,
    classes: Classes,
    z_loss: float,
    perturbed: tuple[bool, ...],
) -> tuple[Array, tuple[Array | Recomputed | None, ...]]:
    g: Array | Recomputed
    if keep is None and not z_loss and classes.recomputes("distribution_loss", x, t):
        known = _loss_and_known(x, t, classes=classes)
        loss, m, scale, mass, main, at_main, excess, others = known
        g = Recomputed((x, t, m, scale, mass, main, at_main), _gradient_times, classes)
        given = Given(m, excess, scale, main, others)
    else:
        loss, g, given = _loss_and_gradient(x, t, keep, classes=classes, z_loss=z_loss)
    minus_log_p = None
    if perturbed[1]:
        log_p = log_softmax_given(wide(zero_where_dropped(x, keep)), given, classes=classes)
        minus_log_p = zero_where_dropped(-log_p, keep)
    return loss, (g, minus_log_p, None)


distribution_loss.defgradients(_gradients)
