r"""Softmax once more, from statistics that are already known: what log-space ops keep.

Notation   x logits, m = max x, M the shift, S = Σ exp(x - M); ẋ, ṗ tangents; x̄, p̄ cotangents.
Primal     p = exp(x - M) / S
JVP, VJP   those of softmax in x; m and S are functions of x already accounted for
Saved      x, m, 1 / S

log_softmax and logsumexp keep (x, m, 1 / S) between their passes: x is alive anyway, the other two
are one number a row, and forming p again from *shifted* terms costs one exponential. (Forming it as
exp(x - logsumexp(x)) would not do: at large offsets the rounding of the logsumexp is all of p.)
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxsoftmax.autodiff import custom_rules

from .devices.classes import Classes, Spread
from .row import xla
from .row.exponentials import ROOM, exponentials, shift, wide
from .softmax import jacobian_product


class Kept(NamedTuple):
    """Logits and their row statistics, which carry no derivative."""

    x: Array
    max: Array
    scale: Array  # 1 / S


def probabilities(kept: Kept, classes: Classes) -> Array:
    """softmax(x), in float32 or wider."""
    return _probabilities(_wide(kept.x), kept.max, kept.scale, classes=classes)


def mean(kept: Kept, v: Array, classes: Classes) -> Array:
    """Σ p∘v, in float32 or wider."""
    if isinstance(classes, Spread):  # the same on all devices: JAX knows what its cotangent is
        return classes.sums(probabilities(kept, classes) * wide(v))[0]
    v_mean: Array = classes.fused("mean", _mean_of, *kept, v)
    return v_mean


def _mean_of(x: Array, m: Array, scale: Array, v: Array, *, classes: Classes) -> Array:
    return _mean(_wide(x), m, scale, wide(v), classes=classes)


def plain_logsumexp(x: Array, m: Array, classes: Classes) -> Array:
    """s, differentiated by JAX, which knows whether its cotangent is whole on each device."""
    (total,) = classes.sums(exponentials(x, m))
    return shift(m, ROOM) + jnp.log(total)


def _wide(x: Array) -> Array:
    """The logits as the functions that saved them see them, so that XLA need not do so again."""
    return wide(xla.stored(x))


@custom_rules
def _probabilities(x: Array, m: Array, scale: Array, *, classes: Classes) -> Array:
    del classes
    return exponentials(x, m) * scale


def _fwd(x: Array, m: Array, scale: Array, *, classes: Classes) -> tuple[Array, Kept]:
    return _probabilities(x, m, scale, classes=classes), Kept(x, m, scale)


def _jvp(kept: Kept, x_dot: Array, *_: Array, classes: Classes) -> Array:
    product: Array = classes.fused("probabilities_product", _product, *kept, x_dot)
    return product


def _vjp(kept: Kept, p_bar: Array, *, classes: Classes) -> tuple[Array, None, None]:
    return _jvp(kept, p_bar, classes=classes), None, None


def _product(x: Array, m: Array, scale: Array, v: Array, *, classes: Classes) -> Array:
    return jacobian_product(_probabilities(x, m, scale, classes=classes), v, classes)


_probabilities.defrules(_fwd, _jvp, _vjp)


@custom_rules
def _mean(x: Array, m: Array, scale: Array, v: Array, *, classes: Classes) -> Array:
    return classes.sums(exponentials(x, m) * v)[0] * scale


def _mean_fwd(*args: Array, classes: Classes) -> tuple[Array, tuple[Array, ...]]:
    v_mean = _mean(*args, classes=classes)
    return v_mean, (*args, v_mean)


def _mean_jvp(
    saved: tuple[Array, ...],
    x_dot: Array,
    m_dot: Array,
    scale_dot: Array,
    v_dot: Array,
    *,
    classes: Classes,
) -> Array:
    x, m, scale, v, v_mean = saved
    return _mean(x, m, scale, v_dot + (v - v_mean) * x_dot, classes=classes)


def _mean_vjp(
    saved: tuple[Array, ...], bar: Array, *, classes: Classes
) -> tuple[Array, None, None, Array]:
    x, m, scale, v, v_mean = saved
    v_bar = _probabilities(x, m, scale, classes=classes) * bar
    return (v - v_mean) * v_bar, None, None, v_bar


_mean.defrules(_mean_fwd, _mean_jvp, _mean_vjp)
