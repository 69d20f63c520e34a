r"""Softmax of rows whose classes are spread over devices: inside shard_map, along a mesh axis.

Notation   x the logits of the classes of this device (n, c); Σ over the classes of all devices,
           so a psum; p = softmax(x), ℓ = log p, k the class with p > 1/2, if there is one
Statistics m = pmax; then ties and rest (`_numerics`), summed in one psum
softmax      ṗ = p∘(u - Σ p∘u), u = ẋ - ẋ_k;  the same with p̄: the Jacobian is symmetric
log_softmax  ℓ̇ = ẋ - Σ p∘ẋ;  x̄ = ℓ̄ - p Σ ℓ̄
logsumexp    ṡ = Σ p∘ẋ
Saved      softmax: p. log_softmax: x, 1 - p_k.
Types      What has two rules takes and gives arrays that vary along the axis. What is the same on
           all devices is differentiated by JAX, which knows whether its cotangent is whole on each
           device (shard_map with `check_vma`) or a share (without).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxsoftmax.autodiff import custom_rules

from . import _numerics as numerics

Names = str | tuple[str, ...]


class RowStatistics(NamedTuple):
    """What one pass over the logits tells about each row; class axes are kept with length 1."""

    max: Array
    ties: Array  # how many classes attain the maximum, >= 1
    rest: Array  # Σ exp(x - max) over the other classes

    @property
    def total(self) -> Array:
        """Σ exp(x - max), at least 1."""
        return self.ties + self.rest

    @property
    def log_total(self) -> Array:
        """log Σ exp(x - max), to full relative accuracy."""
        return jnp.log(self.ties) + jnp.log1p(self.rest / self.ties)


def sum_classes(*values: Array, axis_name: Names) -> tuple[Array, ...]:
    """Of each (n, c): its sum over the classes of all devices, (n, 1). One collective."""
    own = [jnp.sum(value, 1, keepdims=True) for value in values]
    total = lax.psum(jnp.concatenate(own, 1), axis_name)
    return tuple(total[:, i : i + 1] for i in range(len(own)))


def row_max(x: Array, axis_name: Names) -> Array:
    """max x of all devices. Some backends lose a NaN here; it comes back with the next sum."""
    m: Array = lax.pmax(numerics.row_max(x, (1,)), axis_name)
    return m


def below_maximum(x: Array, largest: Array) -> Array:
    """0 where x = m, else 1, as floats, without a comparison."""
    below = largest - jnp.minimum(x, largest)
    return jnp.minimum(below * numerics.largest_number(x, 1 / 4), jnp.ones((), x.dtype))


def row_probabilities(x: Array, row: RowStatistics) -> Array:
    """softmax(x), given its row statistics."""
    return numerics.exponentials(x, row.max) / (row.total * numerics.largest_exponential(row.max))


def row_statistics(
    x: Array, m: Array, *more: Array, axis_name: Names
) -> tuple[RowStatistics, tuple[Array, ...]]:
    """The statistics of all classes, and the sums of `more` (n, c) that travel with them."""
    below = below_maximum(x, m)
    rest = numerics.exponentials(x, m) * below
    ties, rest, *sums = sum_classes(1 - below, rest, *more, axis_name=axis_name)
    # XLA may compute x twice, and differently: no class need then attain the maximum.
    ties = jnp.maximum(ties, jnp.ones((), x.dtype))
    row = RowStatistics(m, ties, rest / numerics.largest_exponential(m))
    return row, tuple(sums)


def _statistics(x: Array, axis_name: Names) -> RowStatistics:
    return row_statistics(x, row_max(x, axis_name), axis_name=axis_name)[0]


@custom_rules
def softmax(x: Array, *, axis_name: Names) -> Array:
    """p of the classes of this device; x in float32 or wider."""
    x = numerics.stored(x)
    return row_probabilities(x, _statistics(x, axis_name))


def _softmax_fwd(x: Array, *, axis_name: Names) -> tuple[Array, Array]:
    p = softmax(x, axis_name=axis_name)
    return p, p


def _jacobian_product(p: Array, v: Array, *, axis_name: Names) -> Array:
    """p∘(u - Σ p∘u), accurate for confident p too: see `_softmax.jacobian_product`."""
    (v_k,) = sum_classes(numerics.majority(p) * v, axis_name=axis_name)
    u = v - v_k
    return p * (u - sum_classes(p * u, axis_name=axis_name)[0])


softmax.defrules(
    _softmax_fwd, _jacobian_product, lambda p, p_bar, **axis: (_jacobian_product(p, p_bar, **axis),)
)


@custom_rules
def log_softmax(x: Array, *, axis_name: Names) -> Array:
    """ℓ of the classes of this device; x in float32 or wider."""
    x = numerics.stored(x)
    row = _statistics(x, axis_name)
    return numerics.shifted(x, row.max) - row.log_total


class _Saved(NamedTuple):
    x: Array
    others: Array  # 1 - p of the likeliest class


def _log_softmax_fwd(x: Array, *, axis_name: Names) -> tuple[Array, _Saved]:
    row = _statistics(numerics.stored(lax.stop_gradient(x)), axis_name)
    others = ((row.ties - jnp.ones_like(row.ties)) + row.rest) / row.total
    return log_softmax(x, axis_name=axis_name), _Saved(x, others)


def _log_softmax_jvp(saved: _Saved, x_dot: Array, *, axis_name: Names) -> Array:
    p = softmax(saved.x, axis_name=axis_name)
    return x_dot - sum_classes(p * x_dot, axis_name=axis_name)[0]


def _log_softmax_vjp(saved: _Saved, bar: Array, *, axis_name: Names) -> tuple[Array]:
    # As in `_log_softmax`: for the class k with more than half of the probability ℓ̄ₖ - pₖ Σℓ̄
    # without the difference of large terms. The second term of `rest` carries its derivative.
    p = softmax(saved.x, axis_name=axis_name)
    main = lax.stop_gradient(numerics.majority(p))
    main_bar, other_bar = sum_classes(main * bar, bar - main * bar, axis_name=axis_name)
    rest = saved.others - (p - lax.stop_gradient(p))
    return (bar * ((1 - main) + main * rest) - p * (other_bar + (1 - main) * main_bar),)


log_softmax.defrules(_log_softmax_fwd, _log_softmax_jvp, _log_softmax_vjp)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def logsumexp(x: Array, axis_name: Names) -> Array:
    """s of all classes, (n, 1), the same on all devices."""
    row = _statistics(numerics.stored(x), axis_name)
    return row.max + row.log_total


@logsumexp.defjvp
def _logsumexp_jvp(axis_name: Names, primals: Any, tangents: Any) -> tuple[Array, Array]:
    p = softmax(*primals, axis_name=axis_name)
    s_dot = sum_classes(p * tangents[0], axis_name=axis_name)[0]
    return logsumexp(*primals, axis_name), s_dot
