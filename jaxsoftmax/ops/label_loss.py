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
           are not kept: 0 in everything. NaN or +inf in the logits: NaN in its row. β = 0 where
           -ℓ_y = inf adds nothing.
Devices    Where the classes are `Spread` L is a share: the terms of y and of s on the first device,
           those of α where its classes are.
Source     z-loss: Chowdhery et al., arXiv:2204.02311, section 5
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxsoftmax.autodiff import Recomputed, custom_rules, differentiates_as, scaled
from jaxsoftmax.autodiff.select import select

from . import row as rows
from .devices.classes import Classes
from .log_softmax import log_softmax_of
from .probabilities import Kept, plain_logsumexp, probabilities
from .row import xla
from .row.exponentials import (
    exponentials,
    is_class,
    last_class,
    wide,
    zero_where,
    zero_where_dropped,
)
from .row.label import LabelRow, Target, label_row, weighted_nll


@custom_rules
def label_loss(x: Array, target: Target, *, classes: Classes, z_loss: float) -> Array:
    """L of every row, in float32 or wider, the class axis kept with length 1."""
    if _is_plain(target, z_loss):
        loss: Array = classes.fused("label_loss", _known, x, _as_int32(target.label, x, classes))[0]
        return loss
    x = xla.stored(x)
    return _loss(x, target, _row_of(x, target, classes), classes, z_loss)


def _row_of(x: Array, target: Target, classes: Classes) -> LabelRow:
    """What the row is made of, from a sum of its own."""
    m, x_y = _max_and_label(x, target, classes)
    own = classes.own(target.label, x)
    (r,) = classes.whole(rows.exponentials_without(x, m, own, classes.axis))
    return _row(x, m, x_y, r, target, classes)


def _max_and_label(x: Array, target: Target, classes: Classes) -> tuple[Array, Array]:
    """m and x_y, 0 in rows that do not count: these may be NaN, or -inf throughout."""
    m, x_y = (
        zero_where_dropped(value, target.keep) for value in classes.max_and_label(x, target.label)
    )
    return m, x_y


def _row(x: Array, m: Array, x_y: Array, r: Array, target: Target, classes: Classes) -> LabelRow:
    """What the row is made of; a label of a row that does not count may be any number."""
    is_class = (target.label >= 0) & (
        target.label <= last_class(classes.number(x), target.label.dtype)
    )
    if target.keep is not None:
        is_class = is_class | ~target.keep
    return label_row(m, zero_where_dropped(r, target.keep), x_y, is_class)


def _loss(x: Array, target: Target, row: LabelRow, classes: Classes, z_loss: float) -> Array:
    loss = row.nll
    if target.beta is not None:
        loss = weighted_nll(target.beta, row.nll)
    if z_loss:
        loss = loss + jnp.asarray(z_loss, loss.dtype) * jnp.square(row.max + row.excess)
    loss = classes.first(loss)
    if target.alpha is not None:
        ask = target.keep is None and classes.may_ask(x)
        loss = loss + rows.cross_entropy(
            target.alpha, x, row.max, row.excess, classes.axis, ask=ask
        )
    return zero_where_dropped(loss, target.keep)


def _textbook(
    value: Any, x: Array, target: Target, *, classes: Classes, z_loss: float
) -> tuple[Array, Array, Array, Array]:
    """L, and g = T p - t + 2λ s p."""
    _, _, m, scale = value
    m = xla.stored(m)
    loss = label_loss(x, target, classes=classes, z_loss=z_loss)
    label, beta, alpha, keep = target
    x = zero_where_dropped(x, keep)
    t = is_class(classes.own(label, x), x, classes.axis).astype(m.dtype)
    mass = jnp.ones((), m.dtype)
    if beta is not None:
        t, mass = beta * t, beta
    if alpha is not None:
        t, mass = t + alpha, mass + classes.sums(alpha)[0]
    if z_loss:
        mass = mass + jnp.asarray(2 * z_loss, m.dtype) * plain_logsumexp(x, m, classes)
    g = mass * probabilities(Kept(x, m, scale), classes) - t
    return loss, zero_where_dropped(g, keep), m, scale


@differentiates_as(_textbook, given_value=True)
def _loss_and_gradient(
    x: Array, target: Target, *, classes: Classes, z_loss: float
) -> tuple[Array, Array, Array, Array]:
    """L and g, from one set of exponentials; m and p / exp(x - M)."""
    x, (label, beta, alpha, keep) = xla.stored(x), target
    m, x_y = _max_and_label(x, target, classes)
    is_label = is_class(classes.own(label, x), x, classes.axis)

    # r = S - e_y, what is left of the loss when the prediction is confident. The label is left out
    # before the sum, where the select fuses with the exponential and g needs the result anyway.
    e = zero_where(is_label if keep is None else is_label | ~keep, exponentials(x, m))
    parts = [e] if alpha is None else [e, zero_where(is_label, alpha), alpha]
    r, *sums = classes.sums(*parts)
    row = _row(x, m, x_y, r, target, classes)
    loss = _loss(x, target, row, classes, z_loss)

    # g = T p - t + 2λ s p, where at the label T p_y - t_y = Σ of the other α - T (1 - p_y).
    zero = jnp.zeros((), m.dtype)
    others, spread = sums or (zero, zero)
    mass = (jnp.ones((), m.dtype) if beta is None else beta) + spread
    pull = jnp.asarray(2 * z_loss, m.dtype) * (row.max + row.excess) if z_loss else zero
    at_label = others - mass * row.others + pull * row.probability
    elsewhere = e * ((mass + pull) * row.scale) - (zero if alpha is None else alpha)
    g = zero_where_dropped(select(is_label, at_label, elsewhere), keep)
    return loss, g, row.max, row.scale


# ------------------------------------------------------------------------------------------------
# Without options: g L̄ is formed from numbers of the rows when L̄ is known
# ------------------------------------------------------------------------------------------------


def _is_plain(target: Target, z_loss: float) -> bool:
    return all(part is None for part in target[1:]) and not z_loss


def _as_int32(label: Array, x: Array, classes: Classes) -> Array:
    """Labels as kernels have them: what is no class is -1."""
    if label.dtype == jnp.int32:
        return label
    valid = (label >= 0) & (label <= last_class(classes.number(x), label.dtype))
    return select(valid, label.astype(jnp.int32), -1)


def _known(x: Array, label: Array, *, classes: Classes) -> tuple[Array, Array, Array, Array]:
    """L, m, p / exp(x - M), 1 - p_y."""
    row = _row_of(xla.stored(x), Target(label), classes)
    return classes.first(row.nll), row.max, row.scale, row.others


def _known_textbook(value: Any, x: Array, label: Array, *, classes: Classes) -> Any:
    return label_loss(x, Target(label), classes=classes, z_loss=0.0), *value[1:]


@differentiates_as(_known_textbook, given_value=True)
def _loss_and_known(x: Array, label: Array, *, classes: Classes) -> Any:
    return classes.fused("label_loss", _known, x, label)


def _pulled(x: Array, label: Array, *known: Array, classes: Classes) -> Array:
    """g L̄, from what is known of the rows."""
    m, scale, others, bar = known
    p = exponentials(xla.stored(x), m) * scale
    g = select(is_class(classes.own(label, x), x, classes.axis), -others, p)
    return scaled(g, bar).astype(x.dtype)


def _pulled_textbook(x: Array, label: Array, *known: Array, classes: Classes) -> Array:
    """(p - e_y) L̄."""
    m, scale, _, bar = known
    m = xla.stored(m)
    t = is_class(classes.own(label, x), x, classes.axis).astype(m.dtype)
    return scaled(probabilities(Kept(x, m, scale), classes) - t, bar).astype(x.dtype)


@differentiates_as(_pulled_textbook)
def _gradient_times(*arrays: Array, classes: Classes) -> Array:
    product: Array = classes.fused("label_gradient", _pulled, *arrays)
    return product


# ------------------------------------------------------------------------------------------------


def _gradients(
    x: Array, target: Target, *, classes: Classes, z_loss: float, perturbed: Any
) -> tuple[Array, tuple[Array | Recomputed, Any]]:
    none, (label, _, _, keep), asked = Target(None), target, perturbed[1]
    if _is_plain(target, z_loss) and classes.recomputes("label_loss", x, label):
        label = _as_int32(label, x, classes)
        loss, *known = _loss_and_known(x, label, classes=classes)
        return loss, (Recomputed((x, label, *known), _gradient_times, classes), none)
    loss, g, *_ = _loss_and_gradient(x, target, classes=classes, z_loss=z_loss)
    nll = minus_log_p = None
    if asked.beta:
        nll = label_loss(x, Target(label, keep=keep), classes=classes, z_loss=0.0)
    if asked.alpha:
        log_p = log_softmax_of(wide(zero_where_dropped(x, keep)), classes=classes)[0]
        minus_log_p = zero_where_dropped(-log_p, keep)
    return loss, (g, none._replace(beta=nll, alpha=minus_log_p))


label_loss.defgradients(_gradients)
