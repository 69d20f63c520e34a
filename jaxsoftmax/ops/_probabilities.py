r"""Softmax once more, from statistics that are already known: what log-space ops keep.

Notation   x logits, m = max x, M the shift, S = Σ exp(x - M); ẋ, ṗ tangents; x̄, p̄ cotangents.
Primal     p = exp(x - M) / S
JVP, VJP   those of softmax in x; m and S are functions of x already accounted for
Saved      p

log_softmax and logsumexp keep (x, m, 1 / S) between their passes: x is alive anyway, the other two
are one number a row, and forming p again from *shifted* terms costs one exponential. (Forming it as
exp(x - logsumexp(x)) would not do: at large offsets the rounding of the logsumexp is all of p.)
"""

from __future__ import annotations

from typing import NamedTuple

from jax import Array

from jaxsoftmax.autodiff import custom_rules

from . import _numerics as numerics
from ._softmax import jacobian_product


class Kept(NamedTuple):
    """Logits and their row statistics, which carry no derivative."""

    x: Array
    max: Array
    scale: Array  # 1 / S


def probabilities(kept: Kept, axes: numerics.Axes) -> Array:
    """softmax(x), in float32 or wider."""
    return _probabilities(numerics.wide(kept.x), kept.max, kept.scale, axes=axes)


@custom_rules
def _probabilities(x: Array, largest: Array, scale: Array, *, axes: numerics.Axes) -> Array:
    del axes
    return numerics.exponentials(x, largest) * scale


def _fwd(x: Array, largest: Array, scale: Array, *, axes: numerics.Axes) -> tuple[Array, Array]:
    p = _probabilities(x, largest, scale, axes=axes)
    return p, p


def _jvp(p: Array, x_dot: Array, *_: Array, axes: numerics.Axes) -> Array:
    return jacobian_product(p, x_dot, axes)


def _vjp(p: Array, p_bar: Array, *, axes: numerics.Axes) -> tuple[Array, None, None]:
    return jacobian_product(p, p_bar, axes), None, None


_probabilities.defrules(_fwd, _jvp, _vjp)
