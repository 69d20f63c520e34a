r"""Exponentials of a row of logits that keep their last bits, and the selection of one class.

Notation   x logits, m = max x, M the shift, e = exp(x - M); all over the class axis of one row.

The rounding of x - m is off by up to |x - m| 2^-24, which the exponential turns into a relative
error: 60 ULP at x - m = -100. The shift M is a number near m, 0 where that will do, for which x - M
is exact, or so nearly that no result shows it:

    M = ceil(m) below 0,  0 up to `room`,  m - room above,  m far above.

Where m <= 0, x - M is a multiple of the last bit of x and no larger than x: exact. Where M is 0 it
is x. Above, it is exact where the classes are that count, and off by half a unit in the last place
of a number below `room`, or so far down that exp(x - m) is 0. exp(m - M) is at most exp(room).

Source: Blanchard, Higham & Higham, "Accurately computing the log-sum-exp and softmax functions",
IMA J. Numer. Anal. 41(4), doi:10.1093/imanum/draa038; which differences are exact: Sterbenz,
"Floating-point computation", Prentice-Hall 1974, theorem 4.3.1.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import NamedSharding

from jaxsoftmax.autodiff.select import select

from . import xla

# A row of at most so many classes is short: whatever is done to it, one pass is a few numbers.
SHORT = 16

# e^60 is nearly a float32: rounded it is off by 0.07 units in the last place.
ROOM = 60.0


def wide(x: Array) -> Array:
    """`x` in the dtype arithmetic is done in: float32, or float64 where it came in that."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def peak(x: Array, axis: int) -> Array:
    """max x, the class axis kept with length 1; -inf where there is no class."""
    return lax.expand_dims(lax.reduce_max(x, (axis,)), (axis,))


def row_sum(v: Array, axis: int) -> Array:
    """Σ v of float32 or wider, the class axis kept with length 1."""
    return lax.expand_dims(lax.reduce_sum(v, (axis,)), (axis,))


def row_max(x: Array, axis: int) -> Array:
    """max x in float32 or wider."""
    return wide(peak(x, axis))


def shift(largest: Array, room: float | Array) -> Array:
    """The shift M; arithmetic only, which XLA:CPU makes part of a kernel."""
    zero = np.zeros((), largest.dtype)
    above, positive = lax.max(largest - room, zero), lax.max(largest, zero)
    # Where there may be no number near m - room it is m; nothing overflows on the way.
    far = positive + lax.min(positive - 2.0**16, zero)
    return lax.min(lax.ceil(largest), zero) + lax.max(above, far)


def most_room(dtype: Any, classes: Any) -> float:
    """The largest `room` with which neither the sum of a row nor its reciprocal is abnormal."""
    number = classes if isinstance(classes, int) else 2**31  # which may be a symbol
    return float(math.floor(-math.log(np.finfo(dtype).tiny) - math.log(max(number, 1))))


def exponentials(x: Array, largest: Array, room: float = ROOM) -> Array:
    """exp(x - M), 0 at -inf; x is `stored`."""
    m = shift(largest, room)
    if _is_short(x, m):
        m = xla.stored(m)  # XLA:CPU is slow at forming it together with so few exponentials
    return jnp.exp(xla.at_most(wide(x), largest) - m)


def largest_exponential(largest: Array, room: float = ROOM) -> Array:
    """exp(m - M), the exponential of the largest class."""
    return jnp.exp(largest - shift(largest, room))


def shifted(x: Array, largest: Array) -> Array:
    """x - m, at most 0; x is `stored`."""
    return xla.at_most(wide(x), largest) - largest


def static_size(x: Array, axis: int) -> int | None:
    """How many classes there are, or None where that is a symbol (`jax.export`)."""
    size: Any = x.shape[axis]
    return size if isinstance(size, int) else None


def _is_short(x: Array, m: Array) -> bool:
    """Whether a row has several classes, but few."""
    sizes: list[Any] = [n for n, one in zip(x.shape, m.shape, strict=True) if n != one]
    return len(sizes) == 1 and isinstance(sizes[0], int) and 1 < sizes[0] <= SHORT


# ------------------------------------------------------------------------------------------------
# Numbers
# ------------------------------------------------------------------------------------------------


def largest_number(like: Array, share: float = 1.0) -> Array:
    """The largest finite number of a dtype, or a share of it."""
    limit = float(jnp.finfo(like.dtype).max)
    return jnp.asarray(share * limit, like.dtype)


def is_impossible(x: Array) -> Array:
    """Whether a logit is -inf, told without an infinity, which debug modes would find."""
    below: Array = x < -largest_number(x)
    return below


def finite(x: Array) -> Array:
    """`x` with its infinities made the largest numbers there are."""
    return jnp.clip(x, -largest_number(x), largest_number(x))


def weighted(weight: Array, value: Array) -> Array:
    """weight * value for value in (-inf, inf], with 0 * inf = 0 and no select."""
    largest = largest_number(value)
    bounded = jnp.minimum(value, largest)
    # Positive only where value was infinite, or as good as: times weight, then overflow if > 0.
    beyond = jnp.maximum(bounded - largest_number(value, 1 - 2**-20), jnp.zeros((), value.dtype))
    return weight * bounded + (weight * beyond) * largest


def zero_where(which: Array, x: Array) -> Array:
    """`x` with 0 where `which` is True."""
    return select(which, 0, x)


def zero_where_dropped(x: Array, keep: Array | None) -> Array:
    """`x` with 0 in rows or classes that are not kept, which may hold anything; None keeps all."""
    return x if keep is None else select(keep, x, 0)


# ------------------------------------------------------------------------------------------------
# One class
# ------------------------------------------------------------------------------------------------


def is_class(y: Array, x: Array, axis: int) -> Array:
    """Whether an entry of `x` belongs to class `y`; `y` has the rank of `x`, length 1 on `axis`."""
    return lax.broadcasted_iota(y.dtype, x.shape, axis, out_sharding=_placed(x)) == y


def last_class(classes: Any, dtype: Any) -> Any:
    """The number of the last of so many classes, or the largest that the dtype of labels has."""
    return min(classes - 1, np.iinfo(dtype).max) if isinstance(classes, int) else classes - 1


def exists(y: Array, x: Array, axis: int) -> Array:
    """Whether `y` is one of the classes of `x`."""
    found: Array = (y >= 0) & (y <= last_class(x.shape[axis], y.dtype))
    return found


def has_no_index(x: Array, axis: int) -> bool:
    """Whether there are more classes than gathers can count."""
    return (static_size(x, axis) or 0) > 2**31 - 1


def pick(x: Array, y: Array, axis: int) -> Array:
    """x at class `y`, 0 where `y` is not a class; the class axis is kept with length 1."""
    if is_sharded(x, axis) or has_no_index(x, axis):
        # A gather would cross devices; one term of this sum is not 0.
        return row_sum(zero_where(~is_class(y, x, axis), x), axis)
    found = jnp.take_along_axis(
        x, jnp.clip(y, 0, last_class(x.shape[axis], y.dtype)), axis, mode="clip"
    )
    return zero_where(~exists(y, x, axis), found)


def without_class(v: Array, y: Array, axis: int) -> Array:
    """`v` with 0 at class `y`, and the rest as it is, without a select where that can be."""
    classes = static_size(v, axis)
    if classes is None or classes > 2**24:  # not every class is a float32
        return zero_where(is_class(y, v, axis), v)
    number = lax.broadcasted_iota(v.dtype, v.shape, axis, out_sharding=_placed(v))
    distance = jnp.abs(number - y.astype(v.dtype))
    return v * jnp.minimum(distance, jnp.ones((), v.dtype))


def majority(p: Array) -> Array:
    """1 at the class with p > 1/2, else 0, as floats, without a comparison."""
    half = 0.5 - float(np.finfo(p.dtype).eps) / 2
    return jnp.floor(p + jnp.asarray(half, p.dtype))


def _placed(x: Array) -> NamedSharding | None:
    """Where the type says that x lies, if it says so: on a mesh with explicit axes."""
    sharding: NamedSharding = jax.typeof(x).sharding
    return sharding if any(name is not None for name in sharding.spec) else None


def is_placed(x: Array) -> bool:
    """Whether the type says where `x` lies."""
    return _placed(x) is not None


def is_sharded(x: Array, axis: int) -> bool:
    """Whether the type spreads the classes over devices, where a gather is an error."""
    return jax.typeof(x).sharding.spec[axis] is not None


def log1p(x: Array) -> Array:
    """log(1 + x), for x below 0 too."""
    if x.dtype != jnp.float64 or not xla.log1p_loses_digits():
        return jnp.log1p(x)
    below = (x < -1 / 4) & (x > -3 / 4)  # there it is -log(1 - x / (1 + x))
    inside, outside = zero_where(~below, x), zero_where(below, x)
    return jnp.log1p(outside) - jnp.log1p(-inside / (1 + inside))
