"""Which axes of a surrounding `shard_map` an array varies along, and arrays that vary along more.

The transpose of the cast is the sum over the devices of these axes: cotangents add up there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Axes = tuple[Any, ...]


def varying_axes(tree: Any) -> Axes:
    """The axes along which an array of the tree varies."""
    axes = (jax.typeof(x).manual_axis_type.varying for x in jax.tree.leaves(tree))
    return tuple(sorted(frozenset[Any]().union(*axes), key=str))


def varying(tree: Any, axes: Iterable[Any]) -> Any:
    """The same arrays, varying along these axes as well."""

    def cast(x: Any) -> Any:
        missing = tuple(axis for axis in axes if axis not in varying_axes(x))
        return lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(cast, tree)


def varying_like(x: Any, like: Any) -> Any:
    """`x`, varying along the axes that arrays of `like` do."""
    return varying(x, varying_axes(like))


def zeros_varying(shape: Any, dtype: Any, axes: Axes) -> Any:
    """Zeros that vary along these axes."""
    return varying(jnp.zeros(shape, dtype), axes)
