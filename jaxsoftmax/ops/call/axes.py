"""The class axes of an array: checked, made one, and put back where they were."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

Axis = int | Sequence[int] | None
Axes = tuple[int, ...]


def is_index(value: Any) -> bool:
    """Whether `value` is one integer, of Python, NumPy or JAX."""
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, (bool, np.bool_))


def axes(function: str, axis: Axis, ndim: int) -> Axes:
    """`axis` as a tuple of non-negative ints, in the order they are given; None means all axes."""
    if axis is None:
        return tuple(range(ndim))
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    found = []
    for one in given:
        if not is_index(one):
            raise TypeError(
                f"{function}: axis must be an int, a tuple of ints or None, got {axis!r}."
            )
        index = operator.index(one)
        if not ndim:
            raise ValueError(
                f"{function}: axis must be None for an array of 0 dimensions, got {index}."
            )
        if not -ndim <= index < ndim:
            raise ValueError(
                f"{function}: axis must lie between {-ndim} and {ndim - 1} for an array of "
                f"{ndim} dimensions, got {index}."
            )
        found.append(index % ndim)
    if len(set(found)) != len(found):
        raise ValueError(f"{function}: axis must not name a dimension twice, got {axis!r}.")
    return tuple(found)


def class_axes(function: str, axis: Axis, x: Array, *, what: str = "logits") -> Axes:
    """The class axes of a loss, which must hold at least one class: else no label is valid."""
    found = axes(function, axis, x.ndim)
    if not found or any(x.shape[i] == 0 for i in found):
        raise ValueError(
            f"{function}: there must be at least one class, got {what} of shape {x.shape} with the "
            f"class axis {axis!r}."
        )
    return found


def merged_axis(ndim: int, axes: Axes) -> int:
    """Where the class axis of an array of `ndim` dimensions stands when it has been made one."""
    return axes[0] if len(axes) == 1 else ndim - len(axes)


def merge(x: Array, axes: Axes) -> Array:
    """`x` with several class axes made one, the last; classes count in the order of the axes."""
    if len(axes) == 1:
        return x
    moved = jnp.moveaxis(x, axes, range(-len(axes), 0))
    batch = x.ndim - len(axes)
    shape = (*moved.shape[:batch], math.prod(moved.shape[batch:]))
    sharding = jax.typeof(moved).sharding
    if all(name is None for name in sharding.spec[batch:]):
        return moved.reshape(shape)
    whole = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:batch], None))
    return jnp.reshape(moved, shape, out_sharding=whole)


def split(x: Array, axes: Axes, shape: tuple[int, ...]) -> Array:
    """The inverse of `merge`, for an array of `shape`."""
    if len(axes) == 1:
        return x
    back = x.reshape(*x.shape[:-1], *(shape[axis] for axis in axes))
    return jnp.moveaxis(back, range(-len(axes), 0), axes)
