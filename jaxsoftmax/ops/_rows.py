r"""Sums over the classes of a row that leave one class out.

Notation   x logits, m = max x, M the shift, e = exp(x - M), S = Σe; k the main class.

A large term costs a sum of small ones its last bits, so one class, the label or the main one, is
left out of every sum that it could spoil. Subtracting it afterwards would be too late, and a select
before the sum makes XLA:CPU write out what is summed. So the classes are summed in two levels,
        S = Σ_b S_b,  S_b the sum of a block of neighbouring classes,
and the block with the class is summed once more without it, from the few numbers of that block.
Two levels also round less than one, and they find the main class, the one with at least half of the
probability, if there is one: the block of the largest sum holds it, so nothing is searched but the
blocks and that one of them. Softmax needs only the sum, whole: `exact_total`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_batching import custom_vmap

from . import _numerics as numerics


class Row(NamedTuple):
    """What is known of each row; the class axis is kept with length 1."""

    max: Array  # m
    main: Array  # k, an integer; -1 if there is none
    others: Array  # S - e_k; S if there is none
    total: Array  # S, at least exp(m - M)
    log_total: Array  # log Σ exp(x - m), to full relative accuracy


NO_TANGENT = Row._make([None] * 5)  # statistics carry no derivative


def statistics(x: Array, m: Array, axis: int) -> Row:
    """The statistics of rows of logits `x` with maximum `m`."""
    k, e_k, others = _likeliest(x, m, axis)
    # With half of the probability it is the largest: its exponential is known, and need not be
    # trusted where XLA has computed x twice.
    has_main, largest = e_k >= others, numerics.largest_exponential(m)
    total = jnp.where(has_main, largest + others, jnp.maximum(e_k + others, largest))
    log_total = jnp.where(has_main, jnp.log1p(others / largest), jnp.log(total / largest))
    main = jnp.where(has_main, k, jnp.asarray(-1, k.dtype))
    return Row(m, main, jnp.where(has_main, others, total), total, log_total)


def total(x: Array, m: Array, axis: int, room: float = numerics.ROOM) -> Array:
    """Σ exp(x - M)."""
    sums = jnp.sum(numerics.exponentials(x, m, room), axis, keepdims=True)
    return _at_least_the_largest(sums, m, room)


def exact_total(x: Array, m: Array, axis: int, room: float) -> Array:
    """The same, to the last bits in rows with a main class too.

    Large and small terms are summed apart, which takes two sums of one array, but no search.
    """
    classes = x.shape[axis]
    if classes <= numerics.SHORT:
        return total(x, m, axis, room)
    if classes > _VERY_LONG and is_long(x, axis):
        # Few such rows fit in a cache, and then a sum costs the exponentials once more.
        _, e_k, others = _likeliest(x, m, axis, room)
        return e_k + others
    e = numerics.exponentials(x, m, room)
    threshold = numerics.exponentials(m, m, room) * 2**-7
    small = jnp.sum(jnp.minimum(e, threshold), axis, keepdims=True)
    e = numerics.exponentials(x[None], m[None], room)  # to XLA:CPU another array, not one to store
    above = jnp.maximum(e - threshold[None], jnp.zeros((), e.dtype))
    large = jnp.sum(above, axis + 1, keepdims=True)[0]
    return _at_least_the_largest(small + large, m, room)


def _at_least_the_largest(total: Array, m: Array, room: float) -> Array:
    """`total`, and exp(m - M) where XLA may compute x twice and no class be as large as m."""
    if numerics.stays_stored():
        return total
    return jnp.maximum(total, numerics.exponentials(m, m, room))


def at(v: Array, k: Array, axis: int) -> Array:
    """v_k, 0 where there is no such class."""
    found = numerics.pick(v, k, axis)
    return jnp.where(k < 0, jnp.zeros_like(found), found)


def sum_without(v: Array, k: Array, axis: int) -> Array:
    """Σ v_j over all classes but `k`."""
    if not is_long(v, axis):
        left = _left_out(v, numerics.is_class(k, v, axis))
        return jnp.sum(left, axis, keepdims=True)
    if v.shape[axis] > _VERY_LONG:
        return _sum_in_blocks(lambda v: v, v, k, axis)
    return jnp.sum(numerics.without_class(v, k, axis), axis, keepdims=True)


def exponentials_without(x: Array, m: Array, k: Array, axis: int) -> Array:
    """Σ exp(x - M) over all classes but `k`, where nothing else needs the exponentials."""

    def e(x: Array) -> Array:
        return numerics.exponentials(x, m)

    if not is_long(x, axis):
        return jnp.sum(_left_out(e(x), numerics.is_class(k, x, axis)), axis, keepdims=True)
    if x.shape[axis] > _VERY_LONG:
        return _sum_in_blocks(e, x, k, axis)
    return jnp.sum(numerics.without_class(e(x), k, axis), axis, keepdims=True)


def cross_entropy(
    t: Array, x: Array, m: Array, log_total: Array, axis: int, *, masked: bool
) -> Array:
    """-Σ t∘ℓ, ℓ = (x - m) - log_total, where ℓ = -inf counts for nothing with t = 0.

    Where impossible classes are to be expected, rows are `masked`.
    """
    if not is_long(x, axis):
        terms = t * (log_total - numerics.shifted(x, m))
        return jnp.sum(_left_out(terms, t == 0), axis, keepdims=True)

    def without_impossible() -> Array:
        # Two sums of plain products without a common term, of which XLA:CPU writes out nothing.
        limit = numerics.largest_number(m)
        minus_log_p = log_total[None] - numerics.shifted(x[None], m[None])
        terms = t[None] * jnp.minimum(minus_log_p, limit)
        if not numerics.is_new():  # where one sum of products is slow, and rounds more
            for width in (_width(x.shape[axis]), 8):
                terms = _block_sums(terms, width, axis + 1)
        loss = jnp.sum(terms, axis + 1, keepdims=True)[0]
        # Positive only where x is -inf, or as good as; finite, so that t = 0 makes it 0.
        beyond = jnp.minimum(-numerics.wide(x), limit) - numerics.largest_number(m, 1 - 2**-20)
        beyond = jnp.maximum(beyond, jnp.zeros((), m.dtype))
        lost = jnp.sum(t * beyond, axis, keepdims=True)
        return loss + jnp.where(lost > 0, jnp.full_like(loss, jnp.inf), jnp.zeros_like(loss))

    # To ask all rows would take a collective; and older JAX writes out what both ways share.
    if masked or numerics.is_spread(x) or not numerics.is_new():
        return without_impossible()
    # 0 * inf is NaN, and nothing else that is summed here becomes NaN without being so already.
    minus_log_p = log_total[None] - numerics.shifted(x[None], m[None])
    loss = jnp.sum(t[None] * minus_log_p, axis + 1, keepdims=True)[0]
    mended = lax.cond(_any_nan(loss), without_impossible, lambda: loss)
    return jnp.where(jnp.isnan(loss), mended, loss)


@custom_vmap
def _any_nan(x: Array) -> Array:
    return jnp.any(jnp.isnan(x))


@_any_nan.def_vmap
def _any_nan_of_all(size: int, batched: list[bool], x: Array) -> tuple[Array, bool]:
    """Of all that `vmap` maps over, so that a condition on it remains one."""
    return _any_nan(x), False


# ------------------------------------------------------------------------------------------------
# Blocks of neighbouring classes
# ------------------------------------------------------------------------------------------------

# Of longer rows the sums by size take longer than those by blocks.
_VERY_LONG = 4096


def is_long(x: Array, axis: int) -> bool:
    """Whether sums have two levels; if not, selects leave a class out, which only a CPU minds."""
    # Where the type places the classes on several devices, blocks would cross them.
    several = x.shape[axis] > numerics.SHORT and not numerics.is_sharded(x, axis)
    return several and numerics.on_cpu()


def _width(classes: int) -> int:
    """Classes in a block: near half the square root, a power of 2 from 8 to 256."""
    return 1 << min(max(3, round(math.log2(classes) / 2)), 8)


def _likeliest(
    x: Array, m: Array, axis: int, room: float = numerics.ROOM
) -> tuple[Array, Array, Array]:
    """The likeliest class k of the likeliest block, e_k, and Σ of the other e."""
    e = numerics.exponentials(x, m, room)
    if not is_long(x, axis):
        k = _first_largest(x, axis)
        left = _left_out(e, numerics.is_class(k, x, axis))
        return k, numerics.exponentials(m, m, room), jnp.sum(left, axis, keepdims=True)
    width = _width(x.shape[axis])
    sums = _block_sums(e, width, axis)
    number = _first_largest(sums, axis)
    classes, inside = _block(x, number, width, axis)
    e = _left_out(numerics.exponentials(inside, m, room), _outside(classes, x, axis))
    within = _first_largest(e, axis)
    left = _left_out(e, numerics.is_class(within, e, axis))
    others = _others(sums, number, axis) + jnp.sum(left, axis, keepdims=True)
    return number * width + within, jnp.max(e, axis, keepdims=True), others


def _sum_in_blocks(term: Callable[[Array], Array], x: Array, k: Array, axis: int) -> Array:
    """Σ term(x) over all classes but `k`."""
    width = _width(x.shape[axis])
    number = jnp.maximum(k, 0) // width
    sums = _block_sums(term(x), width, axis)
    classes, inside = _block(x, number, width, axis)
    left = _left_out(term(inside), _outside(classes, x, axis) | (classes == k))
    return _others(sums, number, axis) + jnp.sum(left, axis, keepdims=True)


def _first_largest(v: Array, axis: int) -> Array:
    """argmax v, which XLA:CPU is slow at; the last number in a row with NaN."""
    largest = jnp.max(v, axis, keepdims=True, initial=-jnp.inf)
    number = lax.broadcasted_iota(jnp.int32, v.shape, axis)
    last = jnp.asarray(v.shape[axis] - 1, jnp.int32)
    return jnp.min(jnp.where(v >= largest, number, last), axis, keepdims=True, initial=last)


def _block_sums(v: Array, width: int, axis: int) -> Array:
    """The sums of blocks of `width` neighbours, of which the last may be shorter."""
    window = [1] * v.ndim
    window[axis] = width
    padding = [(0, 0)] * v.ndim
    padding[axis] = (0, -v.shape[axis] % width)
    sums: Array = lax.reduce_window(v, np.zeros((), v.dtype), lax.add, window, window, padding)
    return sums


def _block(v: Array, number: Array, width: int, axis: int) -> tuple[Array, Array]:
    """The classes of one block of each row, and `v` there; they may run past the last class."""
    shape = [1] * v.ndim
    shape[axis] = width
    classes = number * width + lax.broadcasted_iota(number.dtype, shape, axis)
    bounded = jnp.minimum(classes, v.shape[axis] - 1)
    return classes, jnp.take_along_axis(v, bounded, axis, mode="clip")


def _outside(classes: Array, v: Array, axis: int) -> Array:
    return classes >= v.shape[axis]


def _others(sums: Array, number: Array, axis: int) -> Array:
    """Σ of the sums of all blocks but one."""
    left = _left_out(sums, numerics.is_class(number, sums, axis))
    return jnp.sum(_block_sums(left, 8, axis), axis, keepdims=True)


def _left_out(v: Array, which: Array) -> Array:
    return jnp.where(which, jnp.zeros((), v.dtype), v)
