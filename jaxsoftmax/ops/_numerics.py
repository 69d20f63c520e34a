r"""The numerics every op stands on: exponentials and masks that keep their last bits.

Notation   x logits, m = max x, M the shift, e = exp(x - M); all over the class axis of one row.

Three things go wrong in the textbook formulas, and each is put right once.

1.  log Σe of a confident row. With one large logit Σ exp(x - m) = 1 + tiny, and float32 rounds the
    tiny part away: the loss of a sure and right prediction becomes 0, and so does its gradient.
    `_rows` leaves the largest class (or the label) out of the sum, and
        log Σ exp(x - m) = log1p(Σ of the others).
2.  The rounding of x - m. It is off by up to |x - m| 2^-24, which the exponential turns into a
    relative error: 60 ULP at x - m = -100. The shift M is a number near m of so few bits that
    x - M is exact for all classes that count in a sum. Softmax, of which the small entries are
    results too, adds the error of d = fl(x - M), which is x - (d + M) exactly:
        exp(d + error) = e + e error.
3.  The clamp. When the caller's logits are c y and all is compiled together, XLA may evaluate
    c y - m as one fused multiply-add. Its c y is then not the one the maximum was taken of, the
    largest class may come out above or far below the shift, and a row of large logits is NaN.
    min(x, m) stands between the multiplication and the subtraction, so they cannot be fused.

Sums over long rows are taken of max, min, +, -, * and exp of floats: XLA:CPU writes the operand of
a sum to memory when a select or a comparison is in it, which doubles the time; docs/performance.md.

Source: Blanchard, Higham & Higham, "Accurately computing the log-sum-exp and softmax functions",
IMA J. Numer. Anal. 41(4), doi:10.1093/imanum/draa038; the error of a sum: Dekker, "A floating-point
technique for extending the available precision", Numer. Math. 18, doi:10.1007/BF01397083.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import NamedSharding, PartitionSpec

Axes = tuple[int, ...]


def wide(x: Array) -> Array:
    """`x` in the dtype arithmetic is done in: float32, or float64 where it came in that."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def on_cpu() -> bool:
    """Whether what is traced now is for a CPU, as far as one can tell before it is lowered.

    Forms of a sum are chosen by it, all of them right: XLA:CPU writes out what others fuse.
    """
    return jax.default_backend() == "cpu"


def stored(x: Array) -> Array:
    """`x`, on CPU written out first, where XLA is slow or rounds more when it forms x in a sum."""
    return lax.optimization_barrier(x) if on_cpu() else x


def in_one_axis(x: Array, alive: Array | None, axes: Axes) -> tuple[Array, Array | None, int]:
    """`x`, and what there is one of in each row, with the class axes made one; and which it is."""
    if len(axes) == 1:
        return x, alive, axes[0]

    def merged(a: Array) -> Array:
        moved = jnp.moveaxis(a, axes, range(-len(axes), 0))
        batch = a.ndim - len(axes)
        shape = (*moved.shape[:batch], math.prod(moved.shape[batch:]))
        sharding = jax.typeof(moved).sharding
        if all(name is None for name in sharding.spec[batch:]):
            return moved.reshape(shape)
        whole = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:batch], None))
        return jnp.reshape(moved, shape, out_sharding=whole)

    return merged(x), None if alive is None else merged(alive), x.ndim - len(axes)


def in_axes(x: Array, axes: Axes, shape: tuple[int, ...]) -> Array:
    """The inverse of `in_one_axis`, for an array of `shape`."""
    if len(axes) == 1:
        return x
    batch = x.shape[:-1]
    back = x.reshape(*batch, *(shape[axis] for axis in axes))
    return jnp.moveaxis(back, range(-len(axes), 0), axes)


def masked(x: Array, mask: Array | None, axes: Axes) -> tuple[Array, Array | None]:
    """`x` with -inf where `mask` is False, and which rows have a class left."""
    if mask is None:
        return x, None
    hidden = jnp.asarray(-jnp.inf, x.dtype)
    return jnp.where(mask, x, hidden), jnp.any(mask, axes, keepdims=True)


def row_max(x: Array, axes: Axes, alive: Array | None = None) -> Array:
    """max x, -inf for a row of -inf, and 0 for rows that are not `alive` (all masked)."""
    largest = jnp.max(x, axes, keepdims=True, initial=-jnp.inf)
    return largest if alive is None else jnp.where(alive, largest, jnp.zeros_like(largest))


def finite(x: Array) -> Array:
    """`x` with its infinities made the largest numbers there are."""
    return jnp.clip(x, -largest_number(x), largest_number(x))


def shifted(x: Array, largest: Array) -> Array:
    """x - m, at most 0 even where XLA has recomputed x; see the clamp above."""
    return jnp.minimum(x, largest) - largest


def shift(largest: Array) -> Array:
    """The shift M: near m, at most m, and so coarse that x - M is exact for x near m.

    It is a multiple of 64 where m is large, 0 for 0 <= m < 64, and where all logits are negative
    and some near 0 a number of 3 bits; m - M < 64, so that exp(m - M) cannot overflow.
    """
    step = jnp.asarray(64, largest.dtype)
    below = lax.reduce_precision(largest * 1.125, np.finfo(largest.dtype).nexp, 2)
    near = jnp.minimum(below, jnp.zeros_like(largest))
    return jnp.where(jnp.abs(largest) < step, near, step * jnp.floor(largest / step))


def exponentials(x: Array, largest: Array) -> Array:
    """exp(x - M); 0 at -inf.

    x - M is exact for the classes that matter. Its rounding shows where M is not 0 and x is more
    than 64 below the maximum: exp(x - M) is at most 1e-28 of the largest then, and right to 5e-6.
    """
    return jnp.exp(jnp.minimum(x, largest) - shift(largest))


def stored_exponentials(x: Array, largest: Array) -> Array:
    """The same, faster where a select is no hindrance: min(x, m) has to mind NaN."""
    return jnp.exp(jnp.where(x > largest, largest, x) - shift(largest))


def exact_exponentials(x: Array, largest: Array) -> Array:
    """exp(x - M), with the rounding of the difference put right; 0 at -inf."""
    bounded, m = jnp.minimum(x, largest), shift(largest)
    # exp is 0 below -1e4 in every dtype; there, and at -inf, the error is bounded too: no 0 * inf.
    d = jnp.maximum(bounded - m, jnp.asarray(-1e4, x.dtype))
    error = jnp.maximum(bounded - (d + m), jnp.asarray(-1, x.dtype))
    e = jnp.exp(d)
    return e + e * error


def largest_exponential(largest: Array) -> Array:
    """exp(m - M), the exponential of the largest class."""
    return exponentials(largest, largest)


def without_class(e: Array, y: Array, axis: int) -> Array:
    """`e` with 0 at class `y`, and the rest as it is, without a select."""
    if e.shape[axis] > 2**24:  # not every class is a float32
        return jnp.where(is_class(y, e, axis), jnp.zeros((), e.dtype), e)
    distance = jnp.abs(lax.broadcasted_iota(e.dtype, e.shape, axis) - y.astype(e.dtype))
    return e * jnp.minimum(distance, jnp.ones((), e.dtype))


def weighted(weight: Array, value: Array) -> Array:
    """weight * value for value in (-inf, inf], with 0 * inf = 0 and no select."""
    largest = largest_number(value)
    finite = jnp.minimum(value, largest)
    # Positive only where value was infinite, or as good as: times weight, then overflow if > 0.
    beyond = jnp.maximum(finite - largest_number(value, 1 - 2**-20), jnp.zeros((), value.dtype))
    return weight * finite + (weight * beyond) * largest


def scaled(gradient: Array, bar: Array) -> Array:
    """gradient * bar; where bar is 0 nothing is asked for, so nothing comes back, not even NaN."""
    return jnp.where(bar == 0, jnp.zeros((), gradient.dtype), gradient * bar)


def is_class(y: Array, x: Array, axis: int) -> Array:
    """Whether an entry of `x` belongs to class `y`; `y` has the rank of `x`, length 1 on `axis`."""
    return lax.broadcasted_iota(y.dtype, x.shape, axis, out_sharding=_placed(x)) == y


def one_hot(y: Array, x: Array, axis: int) -> Array:
    """The distribution that is certain of class `y`; NaN in rows where `y` is not a class."""
    valid = (y >= 0) & (y < x.shape[axis])
    return jnp.where(valid, is_class(y, x, axis).astype(x.dtype), jnp.full_like(x, jnp.nan))


def pick(x: Array, y: Array, axis: int) -> Array:
    """x at class `y`, NaN where `y` is not a class; the class axis is kept with length 1."""
    classes = x.shape[axis]
    valid = (y >= 0) & (y < classes)
    if is_sharded(x, axis):
        # A gather would cross devices; one term of this sum is not 0.
        found = jnp.sum(jnp.where(is_class(y, x, axis), x, jnp.zeros_like(x)), axis, keepdims=True)
    else:
        found = jnp.take_along_axis(x, jnp.clip(y, 0, classes - 1), axis, mode="clip")
    return jnp.where(valid, found, jnp.full_like(found, jnp.nan))


def _placed(x: Array) -> NamedSharding | None:
    """Where the type says that x lies, if it says so: on a mesh with explicit axes."""
    sharding: NamedSharding = jax.typeof(x).sharding
    return sharding if any(name is not None for name in sharding.spec) else None


def is_sharded(x: Array, axis: int) -> bool:
    """Whether the type says so: on a mesh with explicit axes, where a gather is an error."""
    return jax.typeof(x).sharding.spec[axis] is not None


def softcap(x: Array, cap: float) -> Array:
    """cap tanh(x / cap); an impossible class, x = -inf, stays impossible."""
    bounded = jnp.asarray(cap, x.dtype) * jnp.tanh(x / jnp.asarray(cap, x.dtype))
    return jnp.where(x == -jnp.inf, x, bounded)


def largest_number(like: Array, share: float = 1.0) -> Array:
    """The largest finite number of a dtype, or a share of it."""
    limit: float = np.finfo(like.dtype).max
    return jnp.asarray(share * limit, like.dtype)
