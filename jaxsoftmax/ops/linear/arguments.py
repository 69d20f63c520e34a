"""Arguments that the losses of linear classifiers share."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
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
    except (NameError, TypeError) as error:
        raise ValueError(
            f"{function}: axis_name must be a mesh axis of a surrounding jax.shard_map, got "
            f"{axis_name!r}. Outside of shard_map leave it out: the arrays say where they are."
        ) from error


def masks(function: str, where: Any, like: Any) -> tuple[Array | None, Array | None]:
    """The mask of the classes (1, C), if all rows have the same, or that of the entries."""
    if where is None:
        return None, None
    where = arguments.as_array(function, "where", where)
    if all(n == 1 for n in where.shape[:-1]):
        where = where.reshape(where.shape[-1:])
        shared = jax.ShapeDtypeStruct((1, like.shape[-1]), like.dtype)
        return arguments.class_mask(function, where, cast(Array, shared)), None
    return None, arguments.class_mask(function, where, like)


def temperature(function: str, value: Any) -> tuple[float, Array | None]:
    """The temperature as a number, which is static, or as an array (1, 1) and the number 1."""
    if isinstance(value, (Array, np.ndarray)):
        array = arguments.floating_loss(function, "temperature", value)
        if array.shape != ():
            raise ValueError(
                f"{function}: temperature must be a scalar, got {array.dtype}{list(array.shape)}. "
                "Give rows of different temperatures to calls of their own."
            )
        return 1.0, array.reshape(1, 1)
    number = arguments.number(
        function, "temperature", value, lambda t: 0 < t < float("inf"), "positive and finite"
    )
    return number, None


def classes_of_rows(function: str, name: str, value: Any, like: Any) -> Array:
    """One class a row (...), or several (..., K), as (..., K)."""
    batch, shape = like.shape[:-1], _shape(function, name, value)
    if hasattr(value, "dtype") and not arguments.are_classes(value):
        raise TypeError(
            f"{function}: {name} must be integers of the shape {batch} or {_several(batch)}, got "
            f"{value.dtype}{list(shape)}. The likeliest classes of a distribution are those of "
            "jax.lax.top_k."
        )
    if len(shape) not in (len(batch), len(batch) + 1) or shape[: len(batch)] != batch:
        raise ValueError(
            f"{function}: {name} must have the shape {batch}, or {_several(batch)} with K classes "
            f"of each row, got {shape}."
        )
    flat: Any = jax.ShapeDtypeStruct((*shape, like.shape[-1]), like.dtype)
    y = arguments.integer_labels(function, value, flat, (len(shape),), name=name)
    return y if len(shape) > len(batch) else y[..., None]


def labels(function: str, value: Any, like: Any) -> Array:
    """One class of each row (...), or its target distribution (..., C)."""
    if arguments.are_classes(value):
        return arguments.integer_labels(function, value, like, (like.ndim - 1,))
    return arguments.distribution_labels(function, value, like)


def _shape(function: str, name: str, value: Any) -> tuple[int, ...]:
    """The shape of `value`, which is not cut to 32 bits for it."""
    if hasattr(value, "shape") or isinstance(value, int):
        return jnp.shape(value)
    return arguments.as_array(function, name, value).shape


def _several(batch: tuple[int, ...]) -> str:
    """(..., K) for people."""
    return f"({', '.join(map(str, batch))}{', ' if batch else ''}K)"


def ignore_index(function: str, value: Any, y: Array) -> int | None:
    """The label of rows to leave out, or None."""
    index = arguments.ignore_index(function, value)
    if index is not None and not arguments.are_classes(y):
        raise ValueError(
            f"{function}: ignore_index goes with integer labels, got {y.dtype} labels. "
            "Give the rows to leave out the weight 0."
        )
    return index


def sparse_labels(function: str, labels: Any, weights: Any, like: Any) -> tuple[Array, Array]:
    """Several classes of each row, (..., K), and their weights."""
    batch, shape = like.shape[:-1], _shape(function, "labels", labels)
    if len(shape) != len(batch) + 1 or shape[:-1] != batch or not arguments.are_classes(labels):
        raise ValueError(
            f"{function}: with label_weights, labels must be integers of the shape "
            f"{_several(batch)}, K classes of each row, got "
            f"{jnp.result_type(labels)}{list(shape)}. For one class of each row write "
            "labels[..., None]."
        )
    y = classes_of_rows(function, "labels", labels, like)
    return y, arguments.weights(function, "label_weights", weights, shape).astype(like.dtype)
