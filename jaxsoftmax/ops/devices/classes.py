r"""The classes of a row: all of them here, or spread over the devices of a mesh axis.

A rule is written once, for `Classes`, and has the static option `classes`: which axis of its arrays
the classes lie along, and what it takes to add up over all of them.

Spread over devices (inside `shard_map`) each device has the logits x (n, c) of its own classes, and
a loss is a matter of *shares*: every device computes one, and the loss is their sum, taken outside
of all rules. What is known to all devices counts on the `first` alone. A rule then maps what varies
over devices to what varies over devices, which is right whether the cotangent of the sum is whole
on each device (`check_vma`) or a share (without): its gradients are those of the whole loss in the
classes of this device. Labels are numbers of all classes.

Work: two collectives a row of logits, the maximum (with the logit of the label), then all sums.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxsoftmax.autodiff.select import select
from jaxsoftmax.ops import row
from jaxsoftmax.ops.row import kernel
from jaxsoftmax.ops.row.exponentials import (
    is_placed,
    largest_exponential,
    most_room,
    pick,
    row_max,
    row_sum,
    wide,
    zero_where,
)

from .mesh import is_automatic

Names = str | tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Here:
    """All classes along one axis; where a type spreads that axis, XLA adds up."""

    axis: int
    kernels: bool = True  # whether row kernels may be used

    def number(self, x: Array) -> Any:
        """How many classes there are."""
        return x.shape[self.axis]

    def own(self, y: Array, x: Array) -> Array:
        """Class `y` as a number among those of `x`, or outside of them."""
        del x
        return y

    def fused(self, name: str, form: Callable[..., Any], *arrays: Array) -> Any:
        """`form(*arrays, classes=self)`, by the kernel `name` where there is one for them."""
        if self.fits(name, *arrays):
            return kernel.fused(name, form, *arrays, classes=self)
        return form(*arrays, classes=self)

    def fits(self, name: str, *arrays: Array) -> bool:
        """Whether there is a kernel for arrays like these, of which the first is of logits."""
        fits = self.kernels and kernel.fits(name, self.axis, *arrays)
        return fits and not is_automatic(*arrays)

    def recomputes(self, name: str, *arrays: Array) -> bool:
        """Whether a gradient is better formed when its cotangent is known, by that kernel."""
        return jax.default_backend() == "cpu" and self.fits(name, *arrays)

    def may_ask(self, x: Array) -> bool:
        """Whether all rows are on one device, so that to ask something of all is no collective."""
        return not (is_placed(x) or is_automatic(x))

    def max(self, x: Array) -> Array:
        """max x, in float32 or wider."""
        return row_max(x, self.axis)

    def max_and_label(self, x: Array, y: Array) -> tuple[Array, Array]:
        """max x, and the logit of class `y`."""
        return row_max(x, self.axis), wide(pick(x, y, self.axis))

    def sums(self, *values: Array) -> tuple[Array, ...]:
        """Σ of each over the classes; the class axis is kept with length 1."""
        return tuple(row_sum(value, self.axis) for value in values)

    def whole(self, *shares: Array) -> tuple[Array, ...]:
        """What the shares of all devices add up to."""
        return shares

    def first(self, value: Array) -> Array:
        """What all devices know, as a share."""
        return value

    def statistics(self, x: Array, m: Array) -> row.Row:
        """What is known of each row of `stored` logits."""
        return row.statistics(x, m, self.axis)

    def most_room(self, x: Array) -> float:
        """The room above the shift that a softmax can have."""
        return most_room(wide(x).dtype, x.shape[self.axis])

    def exact_total(self, x: Array, m: Array, room: float) -> Array:
        """Σ exp(x - M) to the last bits."""
        return row.exact_total(x, m, self.axis, room)

    def statistics_and_split(self, x: Array, m: Array, t: Array) -> tuple[row.Row, Array, Array]:
        """The same, and of `t` the entry at the main class and the sum of the others."""
        known = self.statistics(x, m)
        return known, *self.split(t, known.main)

    def argmax(self, x: Array, m: Array) -> Array:
        """The first class that attains the maximum."""
        del m
        return jnp.argmax(x, self.axis, keepdims=True)

    def split(self, v: Array, main: Array) -> tuple[Array, Array]:
        """v at the main class, 0 if there is none, and the sum of the others."""
        return pick(v, main, self.axis), row.sum_without(v, main, self.axis)


@dataclasses.dataclass(frozen=True)
class Spread:
    """The classes of all devices along mesh axes, each with as many, on axis 1 of its arrays."""

    names: Names
    axis: int = 1

    def number(self, x: Array) -> Any:
        """How many classes there are."""
        return x.shape[1] * lax.axis_size(self.names)

    def own(self, y: Array, x: Array) -> Array:
        """Class `y` as a number among those of this device, or outside of them."""
        before = lax.axis_index(self.names) * x.shape[1]
        return y - before.astype(y.dtype)

    def fused(self, name: str, form: Callable[..., Any], *arrays: Array) -> Any:
        """`form(*arrays, classes=self)`: kernels are for rows that are on one device."""
        del name
        return form(*arrays, classes=self)

    def fits(self, name: str, *arrays: Array) -> bool:
        """Whether there is a kernel."""
        del name, arrays
        return False

    recomputes = fits

    def may_ask(self, x: Array) -> bool:
        """Whether to ask something of all rows is no collective."""
        del x
        return False

    def max(self, x: Array) -> Array:
        """max x. Some backends lose a NaN here; it comes back with the next sum."""
        m: Array = lax.pmax(row_max(x, 1), self.names)
        return m

    def max_and_label(self, x: Array, y: Array) -> tuple[Array, Array]:
        """max x, and the logit of class `y`. Of the label the largest is the only one."""
        own, largest = self.own(y, x), row_max(x, 1)
        here = (own >= 0) & (own < x.shape[1])
        x_y = select(here, wide(pick(x, own, 1)), -jnp.inf)
        both = lax.pmax(jnp.concatenate([largest, x_y], 1), self.names)
        return both[:, :1], both[:, 1:]

    def sums(self, *values: Array) -> tuple[Array, ...]:
        """Σ of each over the classes of all devices. One collective."""
        return self.whole(*(row_sum(value, 1) for value in values))

    def whole(self, *shares: Array) -> tuple[Array, ...]:
        """What the shares (n, 1) of all devices add up to. One collective."""
        total = lax.psum(jnp.concatenate(shares, 1), self.names)
        return tuple(total[:, i : i + 1] for i in range(len(shares)))

    def first(self, value: Array) -> Array:
        """What all devices know, as shares: all of it on the first, and 0 on the others."""
        return zero_where(lax.axis_index(self.names) != 0, value)

    def statistics(self, x: Array, m: Array) -> row.Row:
        """What is known of each row of `stored` logits; its main class is on one device."""
        known: row.Row = self._statistics(x, m)[0]
        return known

    def most_room(self, x: Array) -> float:
        """The room above the shift that a softmax can have: that of the statistics."""
        del x
        return row.ROOM

    def exact_total(self, x: Array, m: Array, room: float) -> Array:
        """Σ exp(x - M) to the last bits."""
        del room
        return self.statistics(x, m).total

    def statistics_and_split(self, x: Array, m: Array, t: Array) -> tuple[row.Row, Array, Array]:
        """The same, and of `t` the entry at the main class and the sum of the others."""
        known, at, others = self._statistics(x, m, t)
        return known, at, others

    def split(self, v: Array, main: Array) -> tuple[Array, Array]:
        """v at the main class, 0 if there is none, and the sum of the others."""
        at, others = self.whole(pick(v, main, 1), row.sum_without(v, main, 1))
        return at, others

    def argmax(self, x: Array, m: Array) -> Array:
        """The first class that attains the maximum, on the first device that has one."""
        own = jnp.argmax(x, 1, keepdims=True)
        own = own + (lax.axis_index(self.names) * x.shape[1]).astype(own.dtype)
        first: Array = lax.pmin(select(row_max(x, 1) >= m, own, self.number(x)), self.names)
        return first

    def _statistics(self, x: Array, m: Array, *values: Array) -> Any:
        """The statistics, and the values split at the main class, from one collective.

        A device has a candidate if one of its classes attains the maximum and half of its sum.
        """
        k, e_k, others = row.likeliest(x, m, 1)
        has = (row_max(x, 1) == m) & (e_k >= others)
        k = select(has, k, -1)
        shares = [part for v in values for part in (pick(v, k, 1), row.sum_without(v, k, 1))]
        rest = others + zero_where(has, e_k)
        number, rest, *sums = self.whole(has.astype(m.dtype), rest, *shares)
        one, e_m = jnp.ones((), m.dtype), largest_exponential(m)
        # Of several none is the main class, and what is split at it is not asked for.
        k = select(number == one, k, -1)
        rest = rest + jnp.maximum(number - one, jnp.zeros_like(one)) * e_m
        return row.of_likeliest(m, k, jnp.minimum(number, one) * e_m, rest), *sums


Classes = Here | Spread
