r"""The sums of `plain` in the forms that XLA:CPU is quick at.

It writes the operand of a sum to memory when a select or a comparison is in it, which doubles the
time. So sums are taken of max, min, +, -, * and exp of floats, and a class is left out afterwards,
in two levels:

    S = Σ_b S_b,   S_b the sum of a block of neighbouring classes;

the block with the class is summed once more without it, from the few numbers of that block. Two
levels also round less than one, and they find the likeliest class where it has half of S: the block
of the largest sum holds it, so nothing is searched but the blocks and that one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap

from jaxsoftmax.autodiff.select import select

from . import plain, xla
from .exponentials import (
    exponentials,
    is_class,
    largest_exponential,
    largest_number,
    last_class,
    row_sum,
    shifted,
    wide,
    without_class,
    zero_where,
)
from .plain import first_largest

# Of longer rows few fit in a cache, and two sums of their exponentials take longer than blocks.
_VERY_LONG = 4096


def likeliest(x: Array, m: Array, *, axis: int, room: float) -> tuple[Array, Array, Array]:
    """The likeliest class k of the likeliest block, e_k, and Σ of the other e."""
    width = _width(x.shape[axis])
    sums = _block_sums(exponentials(x, m, room), width, axis)
    number = first_largest(sums, axis)
    classes, inside = _block(x, number, width, axis)
    e = zero_where(
        classes > last_class(x.shape[axis], classes.dtype), exponentials(inside, m, room)
    )
    within = first_largest(e, axis)
    left = zero_where(is_class(within, e, axis), e)
    others = _others(sums, number, axis) + row_sum(left, axis)
    return number * width + within, jnp.max(e, axis, keepdims=True), others


def total(x: Array, m: Array, *, axis: int, room: float) -> Array:
    """Σ exp(x - M)."""
    if xla.barrier_holds():
        return row_sum(exponentials(x, m, room), axis)
    return plain.total(x, m, axis=axis, room=room)


def exact_total(x: Array, m: Array, *, axis: int, room: float) -> Array:
    """The same, to the last bits: large and small terms apart, or the likeliest class by itself.

    Two sums of one array take no search, but of very long rows the exponentials once more.
    """
    if x.shape[axis] > _VERY_LONG:
        _, e_k, others = likeliest(x, m, axis=axis, room=room)
        return e_k + others
    e = exponentials(x, m, room)
    threshold = largest_exponential(m, room) * 2**-7
    small = row_sum(jnp.minimum(e, threshold), axis)
    e = exponentials(xla.another(x), xla.another(m), room)
    above = e - jnp.minimum(e, xla.another(threshold))  # NaN stays NaN
    sums = small + jnp.sum(above, axis + 1, keepdims=True)[0]
    return sums if xla.barrier_holds() else xla.at_least(sums, largest_exponential(m, room))


def sum_without(v: Array, k: Array, *, axis: int) -> Array:
    """Σ v over all classes but k."""
    if v.shape[axis] > _VERY_LONG:
        return _sum_in_blocks(lambda v: v, v, k, axis)
    return row_sum(without_class(v, k, axis), axis)


def exponentials_without(x: Array, m: Array, k: Array, *, axis: int) -> Array:
    """Σ exp(x - M) over all classes but k."""
    if x.shape[axis] > _VERY_LONG:
        return _sum_in_blocks(lambda x: exponentials(x, m), x, k, axis)
    return row_sum(without_class(exponentials(x, m), k, axis), axis)


def cross_entropy(t: Array, x: Array, m: Array, excess: Array, *, axis: int, ask: bool) -> Array:
    """-Σ t∘ℓ, ℓ = (x - m) - excess; a target of 0 adds nothing, even where ℓ = -inf."""

    def minus_log_p() -> Array:
        return xla.another(excess) - shifted(xla.another(x), xla.another(m))

    def without_impossible() -> Array:
        # Two sums of plain products without a common term, of which XLA:CPU writes out nothing.
        limit = largest_number(m)
        terms = xla.another(t) * jnp.minimum(minus_log_p(), limit)
        if xla.sums_products_slowly():
            for width in (_width(x.shape[axis]), 8):
                terms = _block_sums(terms, width, axis + 1)
        loss = jnp.sum(terms, axis + 1, keepdims=True)[0]
        # Positive only where x is -inf, or as good as; finite, so that t = 0 makes it 0.
        beyond = jnp.minimum(-wide(x), limit) - largest_number(m, 1 - 2**-20)
        lost = jnp.sum(t * jnp.maximum(beyond, jnp.zeros((), m.dtype)), axis, keepdims=True)
        loss = loss + select(lost > 0, jnp.inf, jnp.zeros_like(loss))
        return select(jnp.isnan(excess), excess, loss)  # which a minimum may have dropped

    if not ask or xla.sums_products_slowly():  # older JAX writes out what both ways share
        return without_impossible()
    # 0 * inf is NaN, and nothing else that is summed here becomes NaN without being so already.
    loss = jnp.sum(xla.another(t) * minus_log_p(), axis + 1, keepdims=True)[0]
    mended = lax.cond(_any_nan(loss), without_impossible, lambda: loss)
    return select(jnp.isnan(loss), mended, loss)


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


def _width(classes: int) -> int:
    """Classes in a block: near half the square root, a power of 2 from 8 to 256."""
    return 1 << min(max(3, round(math.log2(classes) / 2)), 8)


def _sum_in_blocks(term: Callable[[Array], Array], x: Array, k: Array, axis: int) -> Array:
    """Σ term(x) over all classes but `k`."""
    width = _width(x.shape[axis])
    number = jnp.maximum(k, 0) // width
    sums = _block_sums(term(x), width, axis)
    classes, inside = _block(x, number, width, axis)
    left = zero_where((classes > last_class(x.shape[axis], k.dtype)) | (classes == k), term(inside))
    return _others(sums, number, axis) + row_sum(left, axis)


def _block_sums(v: Array, width: int, axis: int) -> Array:
    """The sums of blocks of `width` neighbours, of which the last may be shorter."""
    window = [1] * v.ndim
    window[axis] = width
    padding = [(0, 0)] * v.ndim
    padding[axis] = (0, -v.shape[axis] % width)
    # XLA takes seconds to compute one of constants while compiling, were it to know the 0.
    zero = xla.stored(jnp.zeros((), v.dtype))
    sums: Array = lax.reduce_window(v, zero, lax.add, window, window, padding)
    return sums


def _block(v: Array, number: Array, width: int, axis: int) -> tuple[Array, Array]:
    """The classes of one block of each row, and `v` there; they may run past the last class."""
    shape = [1] * v.ndim
    shape[axis] = width
    classes = number * width + lax.broadcasted_iota(number.dtype, shape, axis)
    bounded = jnp.minimum(classes, last_class(v.shape[axis], classes.dtype))
    return classes, jnp.take_along_axis(v, bounded, axis, mode="clip")


def _others(sums: Array, number: Array, axis: int) -> Array:
    """Σ of the sums of all blocks but one."""
    left = zero_where(is_class(number, sums, axis), sums)
    return row_sum(_block_sums(left, 8, axis), axis)
