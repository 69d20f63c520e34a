r"""Divergences of two softmaxes, on canonical logits: the rules.

Notation   x, x' logits of two distributions p and p', ℓ = log p; d = ℓ' - ℓ;
           φ(d) = e⁻ᵈ - 1 + d, which is >= 0; β weight of p' in the mixture μ = β p' + (1 - β) p;
           a' = log(p' / μ) = -log(β + (1 - β) e⁻ᵈ), a = log(p / μ) = -log(1 - β + β eᵈ)
Primal     KL  L = Σ p'∘d = Σ p'∘φ(d)
           JS  L = β Σ p'∘a' + (1 - β) Σ p∘a = β Σ p'∘φ(a') + (1 - β) Σ p∘φ(a)
Gradient   KL  g = p - p',                     g' = p'∘(d - L)
           JS  g = (1 - β) p∘(a - Σ p∘a),      g' = β p'∘(a' - Σ p'∘a')
JVP, VJP   L̇ = Σ g∘ẋ + Σ g'∘ẋ';  x̄ = g L̄,  x̄' = g' L̄
Saved      g, g' where they are asked for
Accuracy   Both sums of φ have no negative term, so that nothing cancels. Where p and p' are nearly
           the same, d is taken from x' - x: of ℓ' - ℓ, the difference of large numbers, it would be
           noise. Every difference on the way keeps what its rounding loses: one sure class is
           as far from the others as they are large, and φ doubles an error of d. Sums of terms
           round once, and take off what the totals of p and p' have rounded: the terms of
           one class may be nearly all of L.
Edges      A class that both rule out has no part. One that p' alone rules out adds p to KL (with
           the rest that is the formula), one that p alone rules out makes it +inf; JS is bounded.
           NaN or +inf in the logits, or a row of -inf: NaN in its row.
Devices    Where the classes are `Spread` L is a share: each device has that of its classes.
Source     Kullback & Leibler, doi:10.1214/aoms/1177729694; Lin, doi:10.1109/18.61115, whose
           Jensen-Shannon divergence has the weights β and 1 - β
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxsoftmax.autodiff import custom_rules, differentiates_as
from jaxsoftmax.autodiff.select import select

from .devices.classes import Classes
from .probabilities import Kept, probabilities
from .row import xla
from .row.exponentials import (
    exponentials,
    is_impossible,
    largest_exponential,
    log1p,
    zero_where,
)
from .softmax import centred_product


@custom_rules
def divergence(x: Array, x_other: Array, *, classes: Classes, beta: float | None) -> Array:
    """L of every row, (N, 1), in the dtype of the logits.

    Args:
      x: logits (N, C) of p, in float32 or wider.
      x_other: those of p'.
      classes: where the classes are.
      beta: the weight of p' in the mixture of JS, or None for KL.
    """
    return _value(_Two.of(x, x_other, classes), beta)


class _Two(NamedTuple):
    """Two distributions of every row."""

    kept: Kept
    kept_other: Kept
    p: Array
    p_other: Array
    d: Array  # ℓ' - ℓ, 0 where both are -inf
    lost: Array  # what rounding took from d
    short: Array  # 1 - Σ p, (N, 1): what rounding took from all of p
    short_other: Array

    @classmethod
    def of(cls, x: Array, x_other: Array, classes: Classes) -> _Two:
        """From their logits."""
        x, x_other = xla.stored(x), xla.stored(x_other)
        row, other = (classes.statistics(z, classes.max(z)) for z in (x, x_other))
        one = jnp.ones_like(row.total)
        kept = Kept(x, row.max, one / row.total)
        kept_other = Kept(x_other, other.max, one / other.total)
        e, e_other = exponentials(x, row.max), exponentials(x_other, other.max)
        delta, lost = _from_the_largest(x_other, x, other.max, row.max)
        largest, largest_other = largest_exponential(row.max), largest_exponential(other.max)
        change = select(
            jnp.abs(delta) < 1,
            e * jnp.expm1(delta) / largest,
            e_other / largest_other - e / largest,
        )
        # At most 1, or XLA:CPU would take quotients that are not rounded into the sums.
        p, p_other = (
            xla.capped(*of) for of in ((e / row.total, one), (e_other / other.total, one))
        )
        whole = xla.stored(jnp.ones((), p.dtype))
        changed, by, *parts = classes.sums(
            jnp.abs(change), change, *_in_two(p, whole), *_in_two(p_other, whole)
        )
        short, short_other = ((one - high) - low for high, low in (parts[:2], parts[2:]))
        total = row.total / largest
        near = changed < total / 2
        from_change = log1p(zero_where(~near, by) / total)
        d, lost_of_d = _exact_difference(
            delta, select(near, from_change, other.excess - row.excess)
        )
        d, lost = (zero_where(_in_neither(x_other, x), v) for v in (d, lost + lost_of_d))
        return cls(kept, kept_other, p, p_other, d, lost, short, short_other)


def _in_neither(x_other: Array, x: Array) -> Array:
    """Where both rule a class out."""
    return is_impossible(x) & is_impossible(x_other)


def _difference(x_other: Array, x: Array) -> Array:
    """x' - x, 0 where both are -inf."""
    neither = _in_neither(x_other, x)
    return zero_where(neither, x_other) - zero_where(neither, x)


def _from_the_largest(x_other: Array, x: Array, m_other: Array, m: Array) -> tuple[Array, Array]:
    """δ = (x' - m') - (x - m), d but for the change of log Σ exp(x - m), and what it lost."""
    far, lost = _exact_difference(x_other, x)
    shift, lost_of_shift = _exact_difference(m_other, m)
    delta, lost_of_delta = _exact_difference(far, shift)
    delta, lost = _exact_difference(delta, lost_of_shift - (lost + lost_of_delta))
    neither = _in_neither(x_other, x)
    return zero_where(neither, delta), zero_where(neither, lost)


def _excess(kept: Kept, classes: Classes) -> Array:
    """log Σ exp(x - m), to be differentiated."""
    (total,) = classes.sums(exponentials(kept.x, kept.max))
    return jnp.log(total * lax.stop_gradient(1 / largest_exponential(kept.max)))


def _exact_difference(x_other: Array, x: Array) -> tuple[Array, Array]:
    """x' - x, and what its rounding has lost (Knuth's sum of two)."""
    infinite = ~(jnp.isfinite(x_other) & jnp.isfinite(x))
    a, b = zero_where(infinite, x_other), zero_where(infinite, x)
    rounded = a - b
    part = rounded - a
    lost = (a - (rounded - part)) - (b + part)
    return _difference(x_other, x), lax.stop_gradient(zero_where(~jnp.isfinite(lost), lost))


# ------------------------------------------------------------------------------------------------
# The value
# ------------------------------------------------------------------------------------------------


def _value(two: _Two, beta: float | None) -> Array:
    p, p_other, d = two.p, two.p_other, two.d
    if beta is None:
        return _sum((_terms(p_other, p, d, two.lost), two.short_other))
    a, a_other = _to_mixture(d, beta)
    mixture = beta * p_other + (1 - beta) * p
    # What d has lost moves a and a' by parts that add up to it.
    share = beta * p_other / select(mixture > 0, mixture, jnp.ones_like(mixture))
    of_p = _terms(p, mixture, a, -share * two.lost, fallen=_NEAR)
    of_other = _terms(p_other, mixture, a_other, (1 - share) * two.lost, fallen=_NEAR)
    return _sum((beta * of_other, two.short_other), ((1 - beta) * of_p, two.short))


def _sum(*parts: tuple[Array, Array]) -> Array:
    """Σ terms / Σ p of each (terms, 1 - Σ p), on this device, added up and rounded once."""
    sums = [jnp.sum(terms, 1, keepdims=True) for terms, _ in parts]
    total = sum(sums[1:], sums[0])
    unknown = ~jnp.isfinite(total)
    above = zero_where(unknown, total)
    halves = [_in_two(zero_where(unknown, terms), above) for terms, _ in parts]
    high, low = (
        jnp.sum(sum(half[1:], half[0]), 1, keepdims=True) for half in zip(*halves, strict=True)
    )
    missing = [zero_where(unknown, x) * short for x, (_, short) in zip(sums, parts, strict=True)]
    return select(unknown, total, high + sum(missing, low))


def _in_two(x: Array, above: Array) -> tuple[Array, Array]:
    """x in two parts: the first, of x from 0 to a number above it, add up without rounding."""
    high = (x + above) - above
    return high, x - high


# The series is summed above it. Below `fallen`, and where p may have lost digits, p e⁻ᵈ is better
# known as q; of a mixture, which is formed of p and p', everywhere.
_NEAR, _FALLEN, _TINY = -2.0, -8.0, 1e-30


def _terms(p: Array, q: Array, d: Array, lost: ArrayLike, *, fallen: float = _FALLEN) -> Array:
    """p φ(d + lost) for q = p e⁻ᵈ."""
    near, far = (d > _NEAR) & (d < 1), ~((d > _NEAR) | ((d > fallen) & (p > _TINY)))
    d_near = zero_where(~near, d)
    series, power = _phi(d_near), zero_where(far, jnp.exp(-zero_where(near | far, d)))
    phi = select(near, series, (d - 1) + power)
    phi = phi + lost * select(near, d_near - series, 1 - power)  # φ' = 1 - e⁻ᵈ
    # A class with p = 0 adds q, whatever d is.
    return zero_where(p == 0, p * phi) + zero_where(~far, q)


def _phi(d: Array) -> Array:
    """e⁻ᵈ - 1 + d for |d| < 2: d² Σ (-d)ᵏ / (k + 2)!."""
    number = 24 if d.dtype == jnp.float64 else 14
    coefficients = 1 / np.cumprod(np.arange(2.0, number + 2))
    sums = jnp.zeros_like(d)
    for c in coefficients[::-1]:
        sums = jnp.asarray(c, d.dtype) - d * sums
    return jnp.square(d) * sums


def _expm1(d: Array) -> Array:
    """eᵈ - 1; that of JAX 0.10 is off by 5 units in the last place."""
    near = jnp.abs(d) < 1
    small = zero_where(~near, d)
    return select(near, small + _phi(-small), jnp.exp(d) - 1)


def _to_mixture(d: Array, beta: float) -> tuple[Array, Array]:
    """log(p / μ) and log(p' / μ)."""
    return _log_mixture(d, beta), _log_mixture(-d, 1 - beta)


def _log_mixture(d: Array, beta: float) -> Array:
    """-log(1 - β + β eᵈ)."""
    # A share near 1 leaves nothing of β expm1(d) + 1 far below 0; far above 0 it is infinite.
    near = (d < _FAR) if beta <= 1 / 2 else (jnp.abs(d) < 1) | ((d > 0) & (d < _FAR))
    small = log1p(jnp.asarray(beta, d.dtype) * _expm1(zero_where(~near, d)))
    # As a number of the dtype 1 - β has lost the bits of its logarithm.
    one, other = (jnp.asarray(_log(share), d.dtype) for share in (1 - beta, beta))
    return -select(near, small, jnp.logaddexp(one, other + d))


# The square of eᵈ, which is in derivatives, is finite in float32.
_FAR = 40.0


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -math.inf


# ------------------------------------------------------------------------------------------------
# The gradient
# ------------------------------------------------------------------------------------------------


def _accurate(two: _Two, beta: float | None, classes: Classes) -> tuple[Array, Array]:
    p, p_other, d = two.p, two.p_other, two.d
    if beta is None:
        near = jnp.abs(d) < 1
        d_near = zero_where(~near, d)
        change = _phi(d_near) - d_near  # e⁻ᵈ - 1; expm1 of JAX 0.10 is off by 5 ULP
        g = select(near, p_other * (change - two.lost * (change + 1)), p - p_other)
        return g, _centred(p_other, d, classes)
    a, a_other = _to_mixture(d, beta)
    return (1 - beta) * _centred(p, a, classes), beta * _centred(p_other, a_other, classes)


def _centred(p: Array, a: Array, classes: Classes) -> Array:
    """p∘(a - Σ p∘a), where a class with p = 0 has no part."""
    return centred_product(p, zero_where(p == 0, a), classes)


def _textbook(value: Any, x: Array, x_other: Array, *, classes: Classes, beta: float | None) -> Any:
    """L, and both gradients, to be differentiated."""
    _, _, _, of, of_other = value
    loss = divergence(x, x_other, classes=classes, beta=beta)
    kept, kept_other = Kept(x, *of), Kept(x_other, *of_other)
    p, p_other = probabilities(kept, classes), probabilities(kept_other, classes)
    excess, excess_other = (
        _excess(k._replace(max=xla.stored(k.max)), classes) for k in (kept, kept_other)
    )
    delta, _ = _from_the_largest(x_other, x, kept_other.max, kept.max)
    d = delta - (excess_other - excess)
    d = zero_where((p == 0) | (p_other == 0), d)
    if beta is None:
        return loss, p - p_other, _centred(p_other, d, classes), of, of_other
    a, a_other = _to_mixture(d, beta)
    g, g_other = (1 - beta) * _centred(p, a, classes), beta * _centred(p_other, a_other, classes)
    return loss, g, g_other, of, of_other


@differentiates_as(_textbook, given_value=True)
def _value_and_gradients(x: Array, x_other: Array, *, classes: Classes, beta: float | None) -> Any:
    """L, g and g', and what is known of the rows."""
    two = _Two.of(x, x_other, classes)
    g, g_other = _accurate(two, beta, classes)
    of, of_other = ((kept.max, kept.scale) for kept in (two.kept, two.kept_other))
    return _value(two, beta), g, g_other, of, of_other


def _gradients(
    x: Array, x_other: Array, *, classes: Classes, beta: float | None, perturbed: tuple[bool, ...]
) -> tuple[Array, tuple[Array | None, ...]]:
    loss, g, g_other, *_ = _value_and_gradients(x, x_other, classes=classes, beta=beta)
    return loss, (g if perturbed[0] else None, g_other if perturbed[1] else None)


divergence.defgradients(_gradients)
