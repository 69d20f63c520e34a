r"""The numerics every op stands on: exponentials and masks that keep their last bits.

Notation   x logits, m = max x, M the shift, e = exp(x - M); all over the class axis of one row.

Three things go wrong in the textbook formulas, and each is put right once.

1.  log Σe of a confident row. With one large logit Σ exp(x - m) = 1 + tiny, and float32 rounds the
    tiny part away: the loss of a sure and right prediction becomes 0, and so does its gradient.
    `_rows` leaves the largest class (or the label) out of the sum, and
        log Σ exp(x - m) = log1p(Σ of the others).
2.  The rounding of x - m. It is off by up to |x - m| 2^-24, which the exponential turns into a
    relative error: 60 ULP at x - m = -100. The shift M is a number near m, 0 where that will do,
    for which x - M is exact, or so nearly that no result shows it; see `shift`.
3.  What XLA computes twice. When the caller's logits are c y and all is compiled together, it may
    evaluate c y - m as one fused multiply-add. Its c y is then not the one the maximum was taken
    of, the largest class may come out above or far below the shift, and a row of large logits is
    NaN. On CPU logits are `stored`, which costs nothing where they are in memory anyway; elsewhere,
    and in older JAX, min(x, m) stands between the multiplication and the subtraction.

Sums over long rows are taken of max, min, +, -, * and exp of floats: XLA:CPU writes the operand of
a sum to memory when a select or a comparison is in it, which doubles the time; docs/performance.md.

Source: Blanchard, Higham & Higham, "Accurately computing the log-sum-exp and softmax functions",
IMA J. Numer. Anal. 41(4), doi:10.1093/imanum/draa038; which differences are exact: Sterbenz,
"Floating-point computation", Prentice-Hall 1974, theorem 4.3.1.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import NamedSharding, PartitionSpec

from ._mesh import is_automatic

Axes = tuple[int, ...]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class DType:
    """A dtype among residuals, for a rule that must give back what it was given."""

    name: str

    def of(self, x: Array) -> Array:
        """`x` in this dtype."""
        return x.astype(self.name)


def wide(x: Array) -> Array:
    """`x` in the dtype arithmetic is done in: float32, or float64 where it came in that."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def on_cpu() -> bool:
    """Whether what is traced now is for a CPU, as far as one can tell before it is lowered.

    Forms of a sum are chosen by it, all of them right: XLA:CPU writes out what others fuse.
    """
    return jax.default_backend() == "cpu"


def stored(x: Array) -> Array:
    """`x`, on CPU computed once and written out; elsewhere as XLA likes.

    Where it is needed twice it is then the same twice; and XLA:CPU is slow at, or rounds more in,
    some sums of terms that it forms on the way.
    """
    return lax.optimization_barrier(x) if on_cpu() else x


def is_new() -> bool:
    """Whether the XLA of this JAX is not that of 0.10, which sums and stores in other ways."""
    return bool(jax.__version_info__ >= (0, 12))


def stays_stored() -> bool:
    """Whether XLA leaves alone what is `stored`; tests/test_jit.py tells."""
    return on_cpu() and is_new()


def bounded(x: Array, largest: Array) -> Array:
    """`x`, which is `stored`, as float32 or wider, and at most m even where XLA computes it again.

    Half types are stored as they come, and widened wherever they are used: XLA:CPU makes that part
    of each kernel, and would write out one array for all of them.
    """
    x = wide(x)
    return x if stays_stored() else jnp.minimum(x, largest)


def in_one_axis(x: Array, axes: Axes) -> tuple[Array, int]:
    """`x` with its class axes made one, and which it is."""
    if len(axes) == 1:
        return x, axes[0]
    moved = jnp.moveaxis(x, axes, range(-len(axes), 0))
    batch = x.ndim - len(axes)
    shape = (*moved.shape[:batch], math.prod(moved.shape[batch:]))
    sharding = jax.typeof(moved).sharding
    if all(name is None for name in sharding.spec[batch:]):
        return moved.reshape(shape), batch
    whole = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:batch], None))
    return jnp.reshape(moved, shape, out_sharding=whole), batch


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


def masked_rows(x: Array, mask: Array | None, axes: Axes) -> tuple[Array, Array | None]:
    """The same, with 0 throughout a row with no class left, of which -inf would make NaN."""
    x, alive = masked(x, mask, axes)
    return x if alive is None else jnp.where(alive, x, jnp.zeros((), x.dtype)), alive


def row_max(x: Array, axes: Axes) -> Array:
    """max x, -inf where there is no class."""
    return jnp.max(x, axes, keepdims=True, initial=-jnp.inf)


def finite(x: Array) -> Array:
    """`x` with its infinities made the largest numbers there are."""
    return jnp.clip(x, -largest_number(x), largest_number(x))


def shifted(x: Array, largest: Array) -> Array:
    """x - m, at most 0; x as for `bounded`."""
    return bounded(x, largest) - largest


def shift(largest: Array, room: float) -> Array:
    """The shift M, near m: ceil(m) below 0, 0 up to `room`, m - room above, and m far above.

    Where m <= 0, x - M is a multiple of the last bit of x, and no larger than x: exact. Where M is
    0 it is x. Above, it is exact where the classes are that count, and off by half a unit in the
    last place of a number below `room` or so far down that exp(x - m) is 0.
    exp(m - M) is at most exp(room). All of it is arithmetic that XLA:CPU fuses with its neighbours.
    """
    zero = jnp.zeros_like(largest)
    above = jnp.maximum(largest - room, zero)
    far = jnp.minimum(2 * largest - 2.0**16, largest)  # where there may be no number near m - room
    return jnp.minimum(jnp.ceil(largest), zero) + jnp.maximum(above, far)


def most_room(dtype: Any, classes: int) -> float:
    """The largest `room` for a shift with which neither S nor 1 / S leaves the normal numbers."""
    return math.floor(-math.log(np.finfo(dtype).tiny) - math.log(max(classes, 1)))


# A row of at most so many classes is short.
SHORT = 16

# e^60 is nearly a float32: rounded it is off by 0.07 units in the last place.
ROOM = 60


def exponentials(x: Array, largest: Array, room: float = ROOM) -> Array:
    """exp(x - M), 0 at -inf; x as for `bounded`."""
    m = shift(largest, room)
    if m.size < x.size <= SHORT * m.size:
        m = stored(m)  # XLA:CPU is slow at forming it together with the exponentials of a short row
    return jnp.exp(bounded(x, largest) - m)


def largest_exponential(largest: Array) -> Array:
    """exp(m - M), the exponential of the largest class."""
    return exponentials(largest, largest)


def without_class(e: Array, y: Array, axis: int) -> Array:
    """`e` with 0 at class `y`, and the rest as it is, without a select."""
    if e.shape[axis] > 2**24:  # not every class is a float32
        return jnp.where(is_class(y, e, axis), jnp.zeros((), e.dtype), e)
    distance = jnp.abs(lax.broadcasted_iota(e.dtype, e.shape, axis) - y.astype(e.dtype))
    return e * jnp.minimum(distance, jnp.ones((), e.dtype))


def majority(p: Array) -> Array:
    """1 at the class with p > 1/2, else 0, as floats, without a comparison."""
    half = 0.5 - float(np.finfo(p.dtype).eps) / 2
    return jnp.floor(p + jnp.asarray(half, p.dtype))


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


def exists(y: Array, x: Array, axis: int) -> Array:
    """Whether `y` is one of the classes of `x`."""
    return (y >= 0) & (y < x.shape[axis])


def one_hot(y: Array, x: Array, axis: int) -> Array:
    """The distribution that is certain of class `y`; NaN in rows where `y` is not a class."""
    label = is_class(y, x, axis).astype(x.dtype)
    return jnp.where(exists(y, x, axis), label, jnp.full_like(x, jnp.nan))


def pick(x: Array, y: Array, axis: int) -> Array:
    """x at class `y`, NaN where `y` is not a class; the class axis is kept with length 1."""
    if is_sharded(x, axis):
        # A gather would cross devices; one term of this sum is not 0.
        found = jnp.sum(jnp.where(is_class(y, x, axis), x, jnp.zeros_like(x)), axis, keepdims=True)
    else:
        found = jnp.take_along_axis(x, jnp.clip(y, 0, x.shape[axis] - 1), axis, mode="clip")
    return jnp.where(exists(y, x, axis), found, jnp.full_like(found, jnp.nan))


def _placed(x: Array) -> NamedSharding | None:
    """Where the type says that x lies, if it says so: on a mesh with explicit axes."""
    sharding: NamedSharding = jax.typeof(x).sharding
    return sharding if any(name is not None for name in sharding.spec) else None


def is_sharded(x: Array, axis: int) -> bool:
    """Whether the type says so: on a mesh with explicit axes, where a gather is an error."""
    return jax.typeof(x).sharding.spec[axis] is not None


def is_spread(x: Array) -> bool:
    """Whether `x` lies on several devices, or may do so where XLA decides."""
    return _placed(x) is not None or is_automatic(x)


def softcap(x: Array, cap: float) -> Array:
    """cap tanh(x / cap); an impossible class, x = -inf, stays impossible."""
    bounded = jnp.asarray(cap, x.dtype) * jnp.tanh(x / jnp.asarray(cap, x.dtype))
    return jnp.where(x == -jnp.inf, x, bounded)


def largest_number(like: Array, share: float = 1.0) -> Array:
    """The largest finite number of a dtype, or a share of it."""
    limit: float = np.finfo(like.dtype).max
    return jnp.asarray(share * limit, like.dtype)
