"""Arguments that the losses of linear classifiers share."""

from __future__ import annotations

from typing import Any

import jax
from jax import Array, lax

from jaxsoftmax.ops.call import arguments
from jaxsoftmax.ops.call.axes import class_axes
from jaxsoftmax.ops.row.exponentials import wide

from .product import product_dtype


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
    dtype = product_dtype(wide(f[..., :0]).dtype, wide(w[:0]).dtype)
    like: Any = jax.ShapeDtypeStruct((*f.shape[:-1], w.shape[1]), dtype)
    class_axes(function, -1, like)
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
    """Weights of the rows, in the shape of the batch, or None."""
    if weights is None:
        return None
    return arguments.weights(function, "weights", weights, batch).astype(dtype)


def check_reduction(function: str, reduction: Any) -> None:
    """`reduction` is one of the three."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f'{function}: reduction must be "mean", "sum" or "none", got {reduction!r}.'
        )


def check_axis(function: str, axis_name: Any) -> None:
    """`axis_name` is None, or names axes of a surrounding shard_map."""
    if axis_name is None:
        return
    try:
        lax.axis_size(axis_name)
    except NameError as error:
        raise ValueError(
            f"{function}: axis_name must be a mesh axis of a surrounding jax.shard_map, got "
            f"{axis_name!r}. Outside of shard_map leave it out: the arrays say where they are."
        ) from error
