"""Arguments that the losses of linear classifiers share."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from . import _arguments as arguments
from . import _numerics as numerics
from ._blocks import block_rows
from ._product import product_dtype

Reduction = Literal["mean", "sum", "none"]


def operands(
    function: str, features: Any, kernel: Any, bias: Any, *, prefix: str = ""
) -> tuple[Array, Array, Array | None, Any]:
    """The arrays of the linear map, and the shape and dtype of its logits."""
    f = arguments.floating_loss(function, prefix + "features", features)
    w = arguments.floating_loss(function, prefix + "kernel", kernel)
    if w.ndim != 2:
        raise ValueError(
            f"{function}: {prefix}kernel must have the shape (D, C), one column a class, got "
            f"{w.dtype}{list(w.shape)}."
        )
    if f.ndim == 0 or f.shape[-1] != w.shape[0]:
        raise ValueError(
            f"{function}: {prefix}features must have the shape (..., {w.shape[0]}) to go with a "
            f"kernel of shape {w.shape}, got {f.dtype}{list(f.shape)}."
        )
    dtype = product_dtype(numerics.wide(f[..., :0]).dtype, numerics.wide(w[:0]).dtype)
    like: Any = jax.ShapeDtypeStruct((*f.shape[:-1], w.shape[1]), dtype)
    arguments.class_axes(function, -1, like)
    if bias is None:
        return f, w, None, like
    b = arguments.floating_loss(function, prefix + "bias", bias)
    if b.shape != w.shape[1:]:
        raise ValueError(
            f"{function}: {prefix}bias must have the shape {w.shape[1:]}, one number a class, got "
            f"{b.dtype}{list(b.shape)}."
        )
    return f, w, b, like


def row_weights(function: str, weights: Any, batch: tuple[int, ...], dtype: Any) -> Array | None:
    """Weights of the rows with the batch axes made one, or None."""
    if weights is None:
        return None
    like: Any = jax.ShapeDtypeStruct(batch, dtype)
    return arguments.weights(function, "weights", weights, like).astype(dtype).reshape(-1)


def check_reduction(function: str, reduction: Any) -> None:
    """`reduction` is one of the three."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f'{function}: reduction must be "mean", "sum" or "none", got {reduction!r}.'
        )


def shares(
    weights: Array | None, rows: int, keep: Array | None, dtype: Any, reduction: Reduction
) -> Array:
    """What the loss of each row is multiplied by before they are added up."""
    u = jnp.ones(rows, dtype) if weights is None else weights
    u = u if keep is None else jnp.where(keep, u, jnp.zeros_like(u))
    if reduction == "sum":
        return u
    total = jnp.sum(u)
    return u / jnp.where(total == 0, jnp.ones_like(total), total)


def rows_in_block(
    function: str, rows: int, classes: int, dtype: Any, size: int | None, budget: int | None
) -> int:
    if size is not None:
        return min(_positive(function, "block_size", size), max(1, rows))
    budget = None if budget is None else _positive(function, "memory_budget", budget)
    return block_rows(rows, classes * jnp.dtype(dtype).itemsize, budget)


def _positive(function: str, name: str, value: int) -> int:
    whole = arguments.number(
        function, name, value, lambda v: v >= 1 and v == int(v), "a whole number, at least 1"
    )
    return int(whole)
