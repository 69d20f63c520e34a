r"""Softmax once more, from statistics that are already known: what log-space ops keep.

Notation   x logits, m = max x, S = Σ exp(x - m); ẋ, ṗ tangents; x̄, p̄ cotangents.
Primal     p = exp((x - m) - log S)
JVP, VJP   those of softmax in x; m and log S are functions of x already accounted for
Saved      p

log_softmax and logsumexp keep (x, m, log S) between their passes: x is alive anyway, the other two
are one number a row, and forming p again from *shifted* terms costs one exponential. (Forming it as
exp(x - logsumexp(x)) would not do: at large offsets the rounding of the logsumexp is all of p.)
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxsoftmax.autodiff import custom_rules

from . import _numerics as numerics
from ._softmax import jacobian_product


class Kept(NamedTuple):
    """Logits and their row statistics; `max` and `log_total` carry no derivative."""

    x: Array
    max: Array
    log_total: Array


def keep(x: Array, statistics: numerics.RowStatistics) -> Kept:
    """The residuals of an op on `x`."""
    return Kept(x, lax.stop_gradient(statistics.max), lax.stop_gradient(statistics.log_total))


def probabilities(kept: Kept, axes: numerics.Axes) -> Array:
    """softmax(x), in float32 or wider."""
    return _probabilities(numerics.wide(kept.x), kept.max, kept.log_total, axes=axes)


@custom_rules
def _probabilities(x: Array, largest: Array, log_total: Array, *, axes: numerics.Axes) -> Array:
    del axes
    # An infinite maximum has no distribution under it: inf - inf makes all of the row NaN.
    return jnp.exp(numerics.shifted(x, largest) - (log_total + (largest - largest)))


def _fwd(x: Array, largest: Array, log_total: Array, *, axes: numerics.Axes) -> tuple[Array, Array]:
    p = _probabilities(x, largest, log_total, axes=axes)
    return p, p


def _jvp(p: Array, x_dot: Array, *_: Array, axes: numerics.Axes) -> Array:
    return jacobian_product(p, x_dot, axes)


def _vjp(p: Array, p_bar: Array, *, axes: numerics.Axes) -> tuple[Array, None, None]:
    return jacobian_product(p, p_bar, axes), None, None


_probabilities.defrules(_fwd, _jvp, _vjp)
