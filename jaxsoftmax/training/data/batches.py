"""Which rows a step sees: a pure function of (seed, epoch, step)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def order(seed: int | Array, epoch: Array, rows: int, padded: int) -> Array:
    """All row numbers, shuffled by (seed, epoch), and then ``rows`` until there are ``padded``."""
    key = jax.random.fold_in(jax.random.key(seed), epoch)
    shuffled = jax.random.permutation(key, rows)
    return jnp.pad(shuffled, (0, padded - rows), constant_values=rows)


def batch(order: Array, step: Array, size: int, rows: int) -> tuple[Array, Array]:
    """The row numbers of one step, and weights of 0 for the padding of the last one."""
    numbers = jax.lax.dynamic_slice(order, (step * size,), (size,))
    return jnp.minimum(numbers, rows - 1), (numbers < rows).astype(jnp.float32)
