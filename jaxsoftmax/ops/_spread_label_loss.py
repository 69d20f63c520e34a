r"""Cross-entropy of class labels where the classes are spread over devices: the plain case.

Notation   as in `_integer_loss` with t = e_y, and `_spread_loss`
Row        m and x_y in one pmax; then r = Σ exp(x - m) without the label
Primal     the share of L = -ℓ_y + λ s²: all of it on the first device
Gradient   g = p + 2λ s p, and at the label -r / S + 2λ s p_y: no dense target is formed
JVP        Σ g∘ẋ over its own classes
VJP        x̄ = g L̄
Saved      g
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxsoftmax.autodiff import custom_rules

from . import _numerics as numerics
from . import _spread as spread
from ._spread_loss import Part, first_only, part_labels


class LabelRow(NamedTuple):
    """What a row's loss and gradient are made of, (n, 1); see `_integer_loss`."""

    log_total: Array  # log S, S = Σ exp(x - m)
    nll: Array  # -ℓ_y
    p: Array  # p_y
    others: Array  # 1 - p_y
    scale: Array  # p / exp(x - M)


def label_row(m: Array, r: Array, x_y: Array) -> LabelRow:
    """From the maximum, r = Σ exp(x - m) without the label, and the logit of the label."""
    one = jnp.ones((), m.dtype)
    e_y = jnp.exp(x_y - m)
    total = jnp.maximum(r + e_y, one)
    log_total, below = jnp.log(total), m - x_y
    near = jnp.exp(jnp.maximum(x_y, m - one) - m)
    nll = jnp.where(below < one, jnp.log1p(r / near), below + log_total)
    scale = one / (total * numerics.largest_exponential(m))
    return LabelRow(log_total, nll, e_y / total, r / total, scale)


@custom_rules
def label_share(
    x: Array, labels: Array, keep: Array | None, *, z_loss: float, axis_name: spread.Names
) -> Array:
    """The share of L of every row, (n, 1); labels (n, 1) are numbers of all classes."""
    x = numerics.stored(x)
    m, x_y = _largest_and_label(x, labels, axis_name)
    own = _own(x, labels, axis_name)
    e = numerics.without_class(numerics.exponentials(x, m), own, 1)
    return _share(m, _row(m, x_y, e, axis_name), keep, z_loss, axis_name)


def _own(x: Array, labels: Array, axis_name: spread.Names) -> Array:
    """The number of the label among the classes of this device, or outside of them."""
    own: Array = labels - Part.of_device(x.shape[1], axis_name).before.astype(labels.dtype)
    return own


def _largest_and_label(x: Array, labels: Array, axis_name: spread.Names) -> tuple[Array, Array]:
    """The largest logit, and that of the label: NaN for a label that is no class.

    Of the label the largest is the only one. That it is read here, before the exponentials are
    formed, lets these take the place of the logits in memory.
    """
    own, total = _own(x, labels, axis_name), Part.of_device(x.shape[1], axis_name).total
    here = (own >= 0) & (own < x.shape[1])
    largest = numerics.row_max(x, (1,))
    x_y = jnp.where(here, numerics.pick(x, own, 1), jnp.full_like(largest, -jnp.inf))
    both = lax.pmax(jnp.concatenate([largest, x_y], 1), axis_name)
    valid = (labels >= 0) & (labels < total)
    return both[:, :1], jnp.where(valid, both[:, 1:], jnp.asarray(jnp.nan, x.dtype))


def _row(m: Array, x_y: Array, e: Array, axis_name: spread.Names) -> LabelRow:
    """From the exponentials of all classes of this device but the label."""
    (r,) = spread.sum_classes(e, axis_name=axis_name)
    return label_row(m, r / numerics.largest_exponential(m), x_y)


def _share(
    m: Array, row: LabelRow, keep: Array | None, z_loss: float, axis_name: spread.Names
) -> Array:
    loss = row.nll
    if z_loss:
        loss = loss + jnp.asarray(z_loss, m.dtype) * jnp.square(m + row.log_total)
    return _of_kept(first_only(loss, axis_name), keep)


def _of_kept(value: Array, keep: Array | None) -> Array:
    return value if keep is None else jnp.where(keep, value, jnp.zeros_like(value))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _share_and_gradient(
    z_loss: float, axis_name: spread.Names, x: Array, labels: Array, keep: Array | None
) -> tuple[Array, Array]:
    x = numerics.stored(x)
    m, x_y = _largest_and_label(x, labels, axis_name)
    hit = numerics.is_class(_own(x, labels, axis_name), x, 1)
    # The label is left out before the sum: g needs the result anyway, and there is no other array.
    e = jnp.where(hit, jnp.zeros_like(x), numerics.exponentials(x, m))
    row = _row(m, x_y, e, axis_name)
    pull = jnp.asarray(2 * z_loss, x.dtype) * (m + row.log_total) if z_loss else jnp.zeros_like(m)
    # A label that is no class is met on no device: its NaN is in `scale`.
    g = jnp.where(hit, pull * row.p - row.others, e * ((1 + pull) * row.scale))
    return _share(m, row, keep, z_loss, axis_name), _of_kept(g, keep)


@_share_and_gradient.defjvp
def _share_and_gradient_jvp(
    z_loss: float, axis_name: spread.Names, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    """The values above, the derivative of the formulas they stand for."""
    x, labels, keep = primals

    def formulas(x: Array) -> tuple[Array, Array]:
        share = label_share(x, labels, keep, z_loss=z_loss, axis_name=axis_name)
        x = _of_kept(x, keep)
        factor = jnp.ones((), x.dtype)
        if z_loss:
            factor = factor + jnp.asarray(2 * z_loss, x.dtype) * spread.logsumexp(x, axis_name)
        t = part_labels(labels, x, Part.of_device(x.shape[1], axis_name))
        return share, _of_kept(factor * spread.softmax(x, axis_name=axis_name) - t, keep)

    out = _share_and_gradient(z_loss, axis_name, *primals)
    return out, jax.jvp(formulas, (x,), (tangents[0],))[1]


def _fwd(
    x: Array, labels: Array, keep: Array | None, *, z_loss: float, axis_name: spread.Names
) -> tuple[Array, Array]:
    return _share_and_gradient(z_loss, axis_name, x, labels, keep)


def _jvp(gradient: Array, x_dot: Array, labels: None, keep: None, **_: Any) -> Array:
    return jnp.sum(gradient * x_dot, 1, keepdims=True)


def _vjp(gradient: Array, bar: Array, **_: Any) -> tuple[Array, None, None]:
    return numerics.scaled(gradient, bar), None, None


label_share.defrules(_fwd, _jvp, _vjp)
