r"""The numerics every op stands on: exponentials and row statistics that keep their last bits.

Notation   x logits, m = max x, d = x - m <= 0, e = exp d, all over the class axes of one row.

Three things go wrong in the textbook formulas, and each is put right here, once.

1.  log Σe of a confident row. With one large logit Σe = 1 + tiny, and float32 rounds the tiny part
    away: the loss of a sure and right prediction becomes 0 and so does its gradient. So the sum is
    kept in two parts,
        ties = #{j : x_j = m},    rest = Σ (e_j - [x_j = m]),    Σe = ties + rest,
    from which log Σe = log ties + log1p(rest / ties), and 1 - p_j = ((ties - e_j) + rest) / Σe,
    come out with full relative accuracy for every j.
2.  The rounding of d. It is off by up to |d| 2^-24, which the exponential turns into a relative
    error: 60 ULP at d = -100. Knuth's TwoSum recovers the rounding error of the difference exactly,
    and exp(d + err) = e + e err.
3.  The clamp. When the caller's logits are c * y and all is compiled together, XLA may evaluate
    c * y - m as one fused multiply-add. Its c * y is then not the one the maximum was taken of, the
    largest class no longer has d = 0, and a row of large logits has nothing left to sum: NaN.
    min(x, m) stands between the multiplication and the subtraction, so they cannot be fused.

Everything is made of max, min, +, -, * and exp on floats. A select or a comparison would say some
things more plainly, but XLA:CPU writes the operand of a reduction to memory when one is in it, and
that doubles the time; see docs/performance.md.

Source: Blanchard, Higham & Higham, "Accurately computing the log-sum-exp and softmax functions",
IMA J. Numer. Anal. 41(4), doi:10.1093/imanum/draa038; Knuth, TAOCP vol. 2, 4.2.2.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Axes = tuple[int, ...]


class RowStatistics(NamedTuple):
    """What one pass over the logits tells about each row; class axes are kept with length 1."""

    max: Array
    ties: Array  # how many classes attain the maximum, >= 1
    rest: Array  # the sum of the other exponentials, exp(x - max)

    @property
    def total(self) -> Array:
        """Σ exp(x - max), at least 1."""
        return self.ties + self.rest

    @property
    def log_total(self) -> Array:
        """log Σ exp(x - max), to full relative accuracy."""
        return jnp.log(self.ties) + jnp.log1p(self.rest / self.ties)


def wide(x: Array) -> Array:
    """`x` in the dtype arithmetic is done in: float32, or float64 where it came in that."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


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


def shifted(x: Array, largest: Array) -> Array:
    """x - m, at most 0 even where XLA has recomputed x; see the clamp above."""
    return jnp.minimum(x, largest) - largest


def exponentials(x: Array, largest: Array) -> Array:
    """exp(x - m), with the rounding of the difference put right: 1 at the maximum, 0 at -inf."""
    bound = _largest(x, 1 / 4)
    zero = jnp.asarray(-1e4, x.dtype)  # the exponential of anything below is 0 in every dtype

    d = jnp.maximum(shifted(x, largest), zero)
    # TwoSum of x and -m. Held within the bound nothing here overflows, so no 0 * inf comes about.
    m = jnp.clip(largest, -bound, bound)
    a = jnp.maximum(jnp.minimum(x, m), -bound)
    b = d - a
    error = (a - (d - b)) - (m + b)
    e = jnp.exp(d)
    return e + e * error


def at_maximum(d: Array) -> Array:
    """1 where d = 0, else 0, as floats, without a comparison."""
    return jnp.maximum(d * _largest(d, 1 / 4) + jnp.ones((), d.dtype), jnp.zeros((), d.dtype))


def majority(p: Array) -> Array:
    """1 at the class with p > 1/2, else 0, as floats, without a comparison."""
    above = jnp.maximum(p - jnp.asarray(0.5, p.dtype), jnp.zeros((), p.dtype))
    return jnp.minimum(above * _largest(p, 1 / 4), jnp.ones((), p.dtype))


def row_totals(x: Array, axes: Axes, alive: Array | None = None) -> RowStatistics:
    """As `row_statistics` without telling ties from the rest, for ops that need their sum alone."""
    largest = row_max(x, axes, alive)
    finite = jnp.where(largest == -jnp.inf, jnp.zeros_like(largest), largest)
    total = jnp.sum(exponentials(x, finite), axes, keepdims=True)
    return RowStatistics(largest, jnp.maximum(total, jnp.ones_like(total)), jnp.zeros_like(total))


def row_statistics(x: Array, axes: Axes, alive: Array | None = None) -> RowStatistics:
    """The maximum, its multiplicity, and the rest of the sum of exponentials."""
    largest = row_max(x, axes, alive)
    tied = at_maximum(shifted(x, largest))
    ties = jnp.sum(tied, axes, keepdims=True)
    rest = jnp.sum(exponentials(x, largest) - tied, axes, keepdims=True)
    return RowStatistics(largest, jnp.maximum(ties, jnp.ones_like(ties)), rest)


def weighted(weight: Array, value: Array) -> Array:
    """weight * value for value in (-inf, inf], with 0 * inf = 0 and no select."""
    largest = _largest(value)
    finite = jnp.minimum(value, largest)
    # Positive only where value was infinite, or as good as: times weight, then overflow if > 0.
    beyond = jnp.maximum(finite - _largest(value, 1 - 2**-20), jnp.zeros((), value.dtype))
    return weight * finite + (weight * beyond) * largest


def scaled(gradient: Array, bar: Array) -> Array:
    """gradient * bar; where bar is 0 nothing is asked for, so nothing comes back, not even NaN."""
    return jnp.where(bar == 0, jnp.zeros((), gradient.dtype), gradient * bar)


def is_class(y: Array, x: Array, axis: int) -> Array:
    """Whether an entry of `x` belongs to class `y`; `y` has the rank of `x`, length 1 on `axis`."""
    return lax.broadcasted_iota(y.dtype, x.shape, axis) == y


def one_hot(y: Array, x: Array, axis: int) -> Array:
    """The distribution that is certain of class `y`; NaN in rows where `y` is not a class."""
    valid = (y >= 0) & (y < x.shape[axis])
    return jnp.where(valid, is_class(y, x, axis).astype(x.dtype), jnp.full_like(x, jnp.nan))


def pick(x: Array, y: Array, axis: int) -> Array:
    """x at class `y`, NaN where `y` is not a class; the class axis is kept with length 1."""
    classes = x.shape[axis]
    valid = (y >= 0) & (y < classes)
    if _is_sharded(x, axis):
        # A gather would cross devices; one term of this sum is not 0.
        found = jnp.sum(jnp.where(is_class(y, x, axis), x, jnp.zeros_like(x)), axis, keepdims=True)
    else:
        found = jnp.take_along_axis(x, jnp.clip(y, 0, classes - 1), axis, mode="clip")
    return jnp.where(valid, found, jnp.full_like(found, jnp.nan))


def _is_sharded(x: Array, axis: int) -> bool:
    """Whether the type says so: on a mesh with explicit axes, where a gather is an error."""
    return jax.typeof(x).sharding.spec[axis] is not None


def softcap(x: Array, cap: float) -> Array:
    """cap tanh(x / cap); an impossible class, x = -inf, stays impossible."""
    bounded = jnp.asarray(cap, x.dtype) * jnp.tanh(x / jnp.asarray(cap, x.dtype))
    return jnp.where(x == -jnp.inf, x, bounded)


def _largest(like: Array, share: float = 1.0) -> Array:
    """The largest finite number of a dtype, or a share of it."""
    limit: float = np.finfo(like.dtype).max
    return jnp.asarray(share * limit, like.dtype)
