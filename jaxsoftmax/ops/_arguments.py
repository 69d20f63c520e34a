"""What the public functions accept, and the sentences they say when they do not.

Shapes and dtypes are known while tracing, so all of this costs nothing in compiled code. Errors
name the function, what was expected, what came, and what to write instead.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Axis = int | Sequence[int] | None


def floating(function: str, name: str, value: Any) -> Array:
    """`value` as f16, bf16, f32 or f64; integers become floats before any arithmetic."""
    array = _array(function, name, value)
    dtype = array.dtype
    if dtype == jnp.bool_:
        raise TypeError(
            f"{function}: {name} must be real numbers, got {_kind(array)}. "
            f"Convert it first, for example {name}.astype(jnp.float32)."
        )
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(
            f"{function}: {name} must be real numbers, got {_kind(array)}. "
            "Take the real part first."
        )
    if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 2:
        raise TypeError(
            f"{function}: {name} must be float16, bfloat16, float32 or float64, got "
            f"{_kind(array)}: 8-bit floats cannot hold the result. "
            f"Write {name}.astype(jnp.bfloat16)."
        )
    if jnp.issubdtype(dtype, jnp.integer):
        return array.astype(jax.dtypes.canonicalize_dtype(jnp.float64))
    return array


def floating_loss(function: str, name: str, value: Any) -> Array:
    """As `floating`, but integers are refused: such logits are most often swapped arguments."""
    array = _array(function, name, value)
    if jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(
            f"{function}: {name} must be floating point, got {_kind(array)}. "
            f"Write {name}.astype(jnp.float32); were the arguments swapped?"
        )
    return floating(function, name, array)


def axes(function: str, axis: Axis, ndim: int, *, name: str = "axis") -> tuple[int, ...]:
    """`axis` as a sorted tuple of non-negative ints; None means all axes."""
    if axis is None:
        return tuple(range(ndim))
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    found = []
    for one in given:
        if isinstance(one, (bool, np.bool_)) or not hasattr(one, "__index__"):
            raise TypeError(
                f"{function}: {name} must be an int, a tuple of ints or None, got {axis!r}."
            )
        index = operator.index(one)
        if not -ndim <= index < ndim:
            raise ValueError(
                f"{function}: {name} must lie between {-ndim} and {ndim - 1} for an array of "
                f"{ndim} dimensions, got {index}."
            )
        found.append(index % ndim)
    if len(set(found)) != len(found):
        raise ValueError(f"{function}: {name} must not name a dimension twice, got {axis!r}.")
    return tuple(sorted(found))


def class_mask(function: str, where: Any, like: Array) -> Array | None:
    """`where` as a boolean array of the same rank as the logits, or None."""
    if where is None:
        return None
    mask = _array(function, "where", where)
    if mask.dtype != jnp.bool_:
        raise TypeError(f"{function}: where must be boolean, got {_kind(mask)}. Write where != 0.")
    return _broadcast(function, "where", mask, like)


def weights(function: str, name: str, value: Any, like: Array) -> Array:
    """Floating-point weights, broadcast to the shape of `like`."""
    return _broadcast(function, name, floating(function, name, value), like)


def _broadcast(function: str, name: str, array: Array, like: Array) -> Array:
    try:
        fits = np.broadcast_shapes(array.shape, like.shape) == like.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{function}: {name} must broadcast to the shape {like.shape}, got {_kind(array)}."
        )
    # Not jnp.broadcast_to: under numpy_rank_promotion="raise" it warns of what is meant here.
    array = jnp.expand_dims(array, range(like.ndim - array.ndim))
    return jnp.broadcast_to(array, like.shape)


def class_axes(function: str, axis: Axis, x: Array, *, what: str = "logits") -> tuple[int, ...]:
    """The class axes of a loss, which must hold at least one class: else no label is valid."""
    found = axes(function, axis, x.ndim)
    if not found or any(x.shape[i] == 0 for i in found):
        raise ValueError(
            f"{function}: there must be at least one class, got {what} of shape {x.shape} with the "
            f"class axis {axis!r}."
        )
    return found


def single(class_axes: tuple[int, ...], x: Array) -> int:
    """Where the class axis stands after `merge`."""
    return class_axes[0] if len(class_axes) == 1 else x.ndim - len(class_axes)


def merge(x: Any, class_axes: tuple[int, ...]) -> Any:
    """`x` with several class axes made one, the last; None stays None."""
    if x is None or len(class_axes) == 1:
        return x
    last = tuple(range(x.ndim - len(class_axes), x.ndim))
    moved = jnp.moveaxis(x, class_axes, last)
    return moved.reshape(*moved.shape[: last[0]], -1)


def are_classes(labels: Any) -> bool:
    """Whether labels are class indices rather than distributions."""
    return jnp.issubdtype(jnp.result_type(labels), jnp.integer)


def integer_labels(
    function: str, labels: Any, x: Array, class_axes: tuple[int, ...], *, what: str = "logits"
) -> Array:
    """Class labels of the batch shape of `x`."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and labels.size:
        _refuse_wide_labels(function, labels)
    array = _array(function, "labels", labels)
    batch = tuple(n for i, n in enumerate(x.shape) if i not in class_axes)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(
            f"{function}: labels must be integers of shape {batch}, got {_kind(array)}. "
            "For class probabilities use softmax_cross_entropy."
        )
    if array.shape != batch:
        raise ValueError(
            f"{function}: labels must have the shape {batch}, which is the shape {x.shape} of the "
            f"{what} without the class axis, got {_kind(array)}."
        )
    # Room for comparing with every class, and for telling a negative label from a large one.
    return array if array.dtype.itemsize >= 4 else array.astype(jnp.int32)


def _refuse_wide_labels(function: str, labels: np.ndarray) -> None:
    """JAX would cut 64-bit labels to 32 bits without a word, and a wrong class would be right."""
    limits = np.iinfo(jax.dtypes.canonicalize_dtype(labels.dtype))
    if labels.max() > limits.max or labels.min() < limits.min:
        outside = (labels > limits.max) | (labels < limits.min)
        index = tuple(int(i) for i in np.argwhere(outside)[0])
        raise ValueError(
            f"{function}: labels must fit {limits.dtype}, got {labels[index]} at index {index}."
        )


def distribution_labels(function: str, labels: Any, x: Array, *, what: str = "logits") -> Array:
    """Target distributions of exactly the shape of `x`."""
    array = _array(function, "labels", labels)
    if jnp.issubdtype(array.dtype, jnp.integer) and array.ndim < x.ndim:
        raise TypeError(
            f"{function}: labels must be distributions over the classes, of shape {x.shape}, got "
            f"{_kind(array)}. For class indices use softmax_cross_entropy_with_integer_labels."
        )
    if array.shape != x.shape:
        raise ValueError(
            f"{function}: labels must have the shape {x.shape} of the {what}, got {_kind(array)}. "
            f"Write jnp.broadcast_to(labels, {what}.shape) if that is meant."
        )
    return floating(function, "labels", array)


def class_weights(function: str, value: Any, x: Array, class_axes: tuple[int, ...]) -> Array | None:
    """Class weights `(C,)` as an array that broadcasts to the merged logits, or None."""
    if value is None:
        return None
    array = floating(function, "class_weights", value)
    classes = math.prod(x.shape[i] for i in class_axes)
    if array.shape != (classes,):
        raise ValueError(
            f"{function}: class_weights must have the shape {(classes,)}, one weight a class, got "
            f"{_kind(array)}."
        )
    ndim = x.ndim - len(class_axes) + 1
    axis = single(class_axes, x)
    return array.reshape([classes if i == axis else 1 for i in range(ndim)])


def ignore_index(function: str, value: Any) -> int | None:
    """The label of rows to leave out, or None."""
    if value is None:
        return None
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(
            f"{function}: ignore_index must be an int or None, got {type(value).__name__}."
        )
    return operator.index(value)


def number(function: str, name: str, value: Any, fits: Callable[[float], bool], what: str) -> float:
    """A static option within its range."""
    if (
        isinstance(value, jax.core.Tracer)
        or not isinstance(value, (int, float, np.integer, np.floating))
        or isinstance(value, bool)
    ):
        raise TypeError(
            f"{function}: {name} must be a Python number, since it is a static option, got "
            f"{type(value).__name__}."
        )
    if not fits(float(value)):
        raise ValueError(f"{function}: {name} must be {what}, got {value!r}.")
    return float(value)


def _array(function: str, name: str, value: Any) -> Array:
    if isinstance(value, (list, tuple)) or value is None:
        raise TypeError(
            f"{function}: {name} must be an array, got a {type(value).__name__}. "
            f"Write jnp.asarray({name})."
        )
    return jnp.asarray(value)


def _kind(array: Array) -> str:
    return f"{array.dtype}{list(array.shape)}"
