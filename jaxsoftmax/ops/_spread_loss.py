r"""Cross-entropy of rows whose classes are spread over devices: the rules of one device's share.

Notation   as in `_distribution_loss` and `_spread`: x logits and t targets of the classes of this
           device, Σ over those of all devices; L = Σ of the devices' shares
Primal     the share of L: -Σ t∘ℓ over its own classes, and λ s² on the first device
Gradient   g = T p - t + 2λ s p, of L, in the classes of this device
JVP        Σ g∘ẋ - Σ ℓ∘ṫ over its own classes: the shares of L̇ add up to it
VJP        x̄ = g L̄,   t̄ = -ℓ L̄, where L̄ is the cotangent of the sum of the shares
Saved      g; -ℓ where the targets are differentiated
Work       two collectives a block: m, then the sums that the row needs, (n, 2) or (n, 4)
Edges      as in `_distribution_loss`
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxsoftmax.autodiff import custom_rules

from . import _arguments as arguments
from . import _numerics as numerics
from . import _spread as spread
from ._options import Options, admissible


@custom_rules
def loss_share(
    x: Array, t: Array, keep: Array | None, *, z_loss: float, axis_name: spread.Names
) -> Array:
    """The share of L of every row, (n, 1); x and t in float32 or wider."""
    x, t = numerics.stored(_seen(x, keep)), _seen(t, keep)
    row, _ = spread.row_statistics(x, spread.row_max(x, axis_name), axis_name=axis_name)
    return _seen(_share(x, t, row, z_loss, axis_name), keep)


def _share(
    x: Array, t: Array, row: spread.RowStatistics, z_loss: float, axis_name: spread.Names
) -> Array:
    minus_log_p = row.log_total - numerics.shifted(x, row.max)
    share = jnp.sum(numerics.weighted(t, minus_log_p), 1, keepdims=True)
    if z_loss:
        penalty = jnp.asarray(z_loss, x.dtype) * jnp.square(row.max + row.log_total)
        share = share + first_only(penalty, axis_name)
    return share


def first_only(value: Array, axis_name: spread.Names) -> Array:
    """What all devices know, as shares: all of it on the first, and 0 on the others."""
    return jnp.where(lax.axis_index(axis_name) == 0, value, jnp.zeros_like(value))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _share_and_gradient(
    z_loss: float, axis_name: spread.Names, x: Array, t: Array, keep: Array | None
) -> tuple[Array, Array]:
    """The share of L, and g of the classes of this device, from one set of statistics."""
    x, t = numerics.stored(_seen(x, keep)), _seen(t, keep)
    # Only a class that attains the maximum can have more than half of the probability, and then it
    # is the only one. Its T p - t is Σ of the other t - T (1 - p), without the cancellation.
    m = spread.row_max(x, axis_name)
    below = spread.below_maximum(x, m)
    sums = spread.row_statistics(x, m, below * t, (1 - below) * t, axis_name=axis_name)
    row, (others, top) = sums
    mass = others + top
    p = spread.row_probabilities(x, row)
    main = numerics.majority(p)
    g = (1 - main) * (mass * p - t) + main * (others - mass * (row.rest / row.total))
    if z_loss:
        g = g + jnp.asarray(2 * z_loss, x.dtype) * (row.max + row.log_total) * p
    return _seen(_share(x, t, row, z_loss, axis_name), keep), _seen(g, keep)


@_share_and_gradient.defjvp
def _share_and_gradient_jvp(
    z_loss: float, axis_name: spread.Names, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    """The values above, the derivative of the formulas they stand for."""
    x, t, keep = primals

    def formulas(x: Array, t: Array) -> tuple[Array, Array]:
        share = loss_share(x, t, keep, z_loss=z_loss, axis_name=axis_name)
        x, t = _seen(x, keep), _seen(t, keep)
        (factor,) = spread.sum_classes(t, axis_name=axis_name)
        if z_loss:
            s = spread.logsumexp(x, axis_name)
            factor = factor + jnp.asarray(2 * z_loss, x.dtype) * s
        return share, _seen(factor * spread.softmax(x, axis_name=axis_name) - t, keep)

    out = _share_and_gradient(z_loss, axis_name, *primals)
    return out, jax.jvp(formulas, (x, t), tangents[:2])[1]


def _seen(x: Array, keep: Array | None) -> Array:
    """x with zeros in the rows that are not kept, which may hold anything."""
    return x if keep is None else jnp.where(keep, x, jnp.zeros_like(x))


class _Saved(NamedTuple):
    gradient: Array
    minus_log_p: Array | None


def _fwd(
    x: Array,
    t: Array,
    keep: Array | None,
    *,
    z_loss: float,
    axis_name: spread.Names,
    perturbed: tuple[bool, ...],
) -> tuple[Array, _Saved]:
    share, gradient = _share_and_gradient(z_loss, axis_name, x, t, keep)
    minus_log_p = None
    if perturbed[1]:
        log_p = spread.log_softmax(_seen(x, keep), axis_name=axis_name)
        minus_log_p = _seen(-log_p, keep)
    return share, _Saved(gradient, minus_log_p)


def _jvp(
    saved: _Saved, x_dot: Array | None, t_dot: Array | None, keep_dot: None, **_: Any
) -> Array:
    terms = []
    if x_dot is not None:
        terms.append(jnp.sum(saved.gradient * x_dot, 1, keepdims=True))
    if t_dot is not None and saved.minus_log_p is not None:
        terms.append(jnp.sum(numerics.scaled(saved.minus_log_p, t_dot), 1, keepdims=True))
    return functools.reduce(jnp.add, terms)


def _vjp(saved: _Saved, bar: Array, **_: Any) -> tuple[Array, Array | None, None]:
    x_bar = numerics.scaled(saved.gradient, bar)
    t_bar = None if saved.minus_log_p is None else numerics.scaled(saved.minus_log_p, bar)
    return x_bar, t_bar, None


loss_share.defrules(_fwd, _jvp, _vjp, symbolic_zeros=True)


# ------------------------------------------------------------------------------------------------
# Targets of a part of the classes
# ------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """Which of the classes these are."""

    before: Any  # how many classes come before them
    total: int  # how many there are altogether

    @classmethod
    def of_device(cls, classes: int, axis_name: spread.Names) -> Part:
        """The part of this device, if each has so many classes."""
        before = lax.axis_index(axis_name) * classes
        return cls(before, classes * lax.axis_size(axis_name))


def part_labels(labels: Array, x: Array, part: Part) -> Array:
    """Labels as distributions over a part of the classes; see `part_target`."""
    if not arguments.are_classes(labels):
        return labels.astype(x.dtype)
    hit, valid = _hits(labels, x, part)
    return jnp.where(valid, hit.astype(x.dtype), jnp.full_like(x, jnp.nan))


def part_target(
    labels: Array,
    x: Array,
    mask: Array | None,
    count: Array | None,
    class_weights: Array | None,
    options: Options,
    part: Part,
) -> Array:
    """Smoothed and weighted targets (n, c); NaN in rows whose label is no class.

    Args:
      labels: integers (n, 1), numbers of all classes, or distributions (n, c).
      x: logits of the part, for their shape and dtype.
      mask: of the classes of the part, or None.
      count: how many of all classes are admissible, (n, 1), or None for all.
      class_weights: (1, c), or None.
      options: of the loss.
      part: which classes these are.
    """
    number = part.total if count is None else count
    if not arguments.are_classes(labels):
        return options.distribution(labels.astype(x.dtype), mask, class_weights, 1, number)
    hit, valid = _hits(labels, x, part)
    one = jnp.ones((), x.dtype)
    w = one[None, None] if class_weights is None else class_weights.astype(x.dtype)
    # Selected, not multiplied: the derivative in the weight of a class is 0 where it is no label,
    # even where -log p is infinite.
    t = jnp.where(hit, (one - options.label_smoothing) * w, jnp.zeros_like(x))
    if options.label_smoothing:
        t = t + admissible(options.uniform(x, mask, 1, number) * w, mask)
    return jnp.where(valid, t, jnp.full_like(t, jnp.nan))


def _hits(labels: Array, x: Array, part: Part) -> tuple[Array, Array]:
    """Which entries are those of the label, and which labels are a class of any part."""
    valid = (labels >= 0) & (labels < part.total)
    before = jnp.asarray(part.before).astype(labels.dtype)
    return numerics.is_class(labels - before, x, 1), valid
