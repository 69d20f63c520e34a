r"""Sums over the classes of a row, as on paper: for compilers that make a select part of a sum.

Notation   x logits, m = max x, M the shift, e = exp(x - M), S = Σe; k a class, all of one row.

A large term costs a sum of small ones its last bits, and one large logit makes all others small:
log Σ exp(x - m) = log(1 + tiny) is 0. So one class, the label or the likeliest, is left out of
every sum that it could spoil, before the sum: subtracting it afterwards would be too late. `cpu`
has the same functions for XLA:CPU; what they give has the class axis with length 1.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from jaxsoftmax.autodiff.select import select

from . import xla
from .exponentials import (
    exponentials,
    is_class,
    largest_exponential,
    last_class,
    peak,
    row_max,
    row_sum,
    shifted,
    zero_where,
)


def likeliest(x: Array, m: Array, *, axis: int, room: float) -> tuple[Array, Array, Array]:
    """The likeliest class k, e_k, and Σ of the other e."""
    k = first_largest(x, axis)
    left = zero_where(is_class(k, x, axis), exponentials(x, m, room))
    return k, exponentials(row_max(x, axis), m, room), row_sum(left, axis)


def total(x: Array, m: Array, *, axis: int, room: float) -> Array:
    """Σ exp(x - M); no less than its largest term, should XLA compute x twice."""
    sums = row_sum(exponentials(x, m, room), axis)
    return xla.at_least(sums, largest_exponential(m, room))


def exact_total(x: Array, m: Array, *, axis: int, room: float) -> Array:
    """The same, to the last bits in rows with a likely class too: large and small terms apart."""
    e, most = exponentials(x, m, room), largest_exponential(m, room)
    threshold = most * 2**-7
    small = row_sum(jnp.minimum(e, threshold), axis)
    large = row_sum(e - jnp.minimum(e, threshold), axis)  # NaN stays NaN
    return xla.at_least(small + large, most)


def sum_without(v: Array, k: Array, *, axis: int) -> Array:
    """Σ v over all classes but k."""
    return row_sum(zero_where(is_class(k, v, axis), v), axis)


def exponentials_without(x: Array, m: Array, k: Array, *, axis: int) -> Array:
    """Σ exp(x - M) over all classes but k."""
    return sum_without(exponentials(x, m), k, axis=axis)


def cross_entropy(t: Array, x: Array, m: Array, excess: Array, *, axis: int, ask: bool) -> Array:
    """-Σ t∘ℓ, ℓ = (x - m) - excess; a target of 0 adds nothing, even where ℓ = -inf."""
    del ask
    asked = zero_where(t == 0, excess - shifted(x, m))
    return select(jnp.isnan(excess), excess, row_sum(t * asked, axis))  # of targets 0 throughout


def first_largest(v: Array, axis: int) -> Array:
    """argmax v, which XLA:CPU is slow at; the last number in a row with NaN."""
    number = lax.broadcasted_iota(jnp.int32, v.shape, axis)
    last = jnp.asarray(last_class(v.shape[axis], jnp.int32), jnp.int32)
    return jnp.min(select(v >= peak(v, axis), number, last), axis, keepdims=True, initial=last)
