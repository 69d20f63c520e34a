r"""One row of logits to the last bit: what the rules of all operations are made of.

`plain` has the sums as on paper, `cpu` the same in forms that XLA:CPU is quick at. Which one a
program has is decided when it is lowered for its platform; rows that are short, that have their
classes on several devices, or a number of classes that is a symbol, take the plain ones everywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsoftmax.autodiff.select import select
from jaxsoftmax.autodiff.varying import varying, varying_axes

from . import cpu, plain, xla
from .exponentials import ROOM as ROOM
from .exponentials import SHORT, has_no_index, is_sharded, largest_exponential, static_size


class Row(NamedTuple):
    """What is known of each row; the class axis is kept with length 1."""

    max: Array  # m
    main: Array  # the class with at least half of the probability, or -1 if there is none
    others: Array  # Σ exp(x - M) over the classes but that one
    total: Array  # Σ exp(x - M), at least exp(m - M)
    excess: Array  # logsumexp(x) - m, to full relative accuracy


NO_TANGENT = Row._make([None] * 5)  # statistics carry no derivative


def statistics(x: Array, m: Array, axis: int) -> Row:
    """The statistics of rows of logits `x` with maximum `m`."""
    return of_likeliest(m, *likeliest(x, m, axis))


def likeliest(x: Array, m: Array, axis: int) -> tuple[Array, Array, Array]:
    """The likeliest class k (of the likeliest block), e_k, and Σ of the other exponentials."""
    dtypes = jnp.int32, m.dtype, m.dtype
    k, e_k, others = _sums("likeliest", x, m, axis=axis, dtypes=dtypes, room=ROOM)
    return k, e_k, others


def of_likeliest(m: Array, k: Array, e_k: Array, others: Array) -> Row:
    """The statistics of rows, from their likeliest class, its exponential and the sum of others."""
    # With half of the probability it is the largest: its exponential is known, and need not be
    # trusted where XLA has computed x twice.
    has_main, largest = e_k >= others, largest_exponential(m)
    total = select(has_main, largest + others, xla.at_least(e_k + others, largest))
    # Without a main class S is at least 2, and S - 1 as good as S.
    excess = jnp.log1p(select(has_main, others, total - largest) / largest)
    return Row(m, select(has_main, k, -1), select(has_main, others, total), total, excess)


def total(x: Array, m: Array, axis: int, room: float = ROOM) -> Array:
    """Σ exp(x - M); a single sum is quick at any length, and needs no care on CPU."""
    return _sums("total", x, m, axis=axis, dtypes=(m.dtype,), room=room)[0]


def exact_total(x: Array, m: Array, axis: int, room: float) -> Array:
    """The same, to the last bits in rows with a likely class too."""
    if (static_size(x, axis) or SHORT + 1) <= SHORT:
        return total(x, m, axis, room)
    return _sums("exact_total", x, m, axis=axis, dtypes=(m.dtype,), room=room)[0]


def sum_without(v: Array, k: Array, axis: int) -> Array:
    """Σ v over all classes but k."""
    return _sums("sum_without", v, k, axis=axis, dtypes=(v.dtype,))[0]


def exponentials_without(x: Array, m: Array, k: Array, axis: int) -> Array:
    """Σ exp(x - M) over all classes but k, where nothing else needs the exponentials."""
    return _sums("exponentials_without", x, m, k, axis=axis, dtypes=(m.dtype,))[0]


def cross_entropy(t: Array, x: Array, m: Array, excess: Array, axis: int, *, ask: bool) -> Array:
    """-Σ t∘ℓ, ℓ = (x - m) - excess, where ℓ = -inf counts for nothing with t = 0.

    With `ask` it is asked once, for all rows, whether one has such a class; where they are to be
    expected, or rows are on several devices, that does not pay.
    """
    return _sums("cross_entropy", t, x, m, excess, axis=axis, dtypes=(m.dtype,), ask=ask)[0]


def _sums(name: str, *args: Array, axis: int, dtypes: Sequence[Any], **options: Any) -> list[Array]:
    """The function `name` of `cpu` or `plain`, whose results are of these dtypes."""
    on_cpu, plainly = (
        functools.partial(getattr(form, name), axis=axis, **options) for form in (cpu, plain)
    )
    is_short = name != "total" and (static_size(args[0], axis) or 0) <= SHORT
    if is_short or has_no_index(args[0], axis) or any(is_sharded(v, axis) for v in args):
        return jax.tree.leaves(plainly(*args))
    args = tuple(varying(list(args), varying_axes(args)))
    row = jax.typeof(args[-1])  # one number for each row
    results = [row.update(dtype=jnp.dtype(dtype)) for dtype in dtypes]
    return xla.by_platform(on_cpu, plainly, *args, results=results)
