"""A select between arrays or numbers: `jnp.where` as one operation, which traces in a third."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax


def select(which: Array, this: Any, other: Any) -> Array:
    """`this` where `which` is True, else `other`: arrays that broadcast, or numbers."""
    dtype = next(v.dtype for v in (this, other) if hasattr(v, "dtype"))
    if any(any(jax.typeof(v).sharding.spec) for v in (which, this, other) if hasattr(v, "dtype")):
        this, other = (jnp.asarray(v, dtype) for v in (this, other))
        return jnp.where(which, this, other)  # which knows how to broadcast what is spread
    shape = lax.broadcast_shapes(*map(jnp.shape, (which, this, other)))
    which, this, other = (_of_shape(v, shape, dtype) for v in (which, this, other))
    chosen: Array = lax.select(which, this, other)
    return chosen


def _of_shape(value: Any, shape: tuple[Any, ...], dtype: Any) -> Any:
    if not hasattr(value, "dtype"):
        return lax.full(shape, value, dtype)
    missing = len(shape) - value.ndim
    if value.shape == shape:
        return value
    return lax.broadcast_in_dim(value, shape, range(missing, len(shape)))
