"""What the public functions accept, and the sentences they say when they do not.

Shapes and dtypes are known while tracing, so all of this costs nothing in compiled code. Errors
name the function, what was expected, what came, and what to write instead.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsoftmax.autodiff.select import select
from jaxsoftmax.ops.devices.mesh import placed_like

from .axes import Axes, is_index, merged_axis


def floating(function: str, name: str, value: Any) -> Array:
    """`value` as f16, bf16, f32 or f64; integers become floats before any arithmetic."""
    array = as_array(function, name, value)
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
            f"{_kind(array)}: {jnp.finfo(dtype).bits}-bit floats cannot hold the result. "
            f"Write {name}.astype(jnp.bfloat16)."
        )
    if jnp.issubdtype(dtype, jnp.integer):
        return array.astype(jax.dtypes.canonicalize_dtype(jnp.float64))
    return array


def floating_loss(function: str, name: str, value: Any) -> Array:
    """As `floating`, but integers are refused: such logits are most often swapped arguments."""
    array = as_array(function, name, value)
    if jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(
            f"{function}: {name} must be floating point, got {_kind(array)}. "
            f"Write {name}.astype(jnp.float32); were the arguments swapped?"
        )
    return floating(function, name, array)


def class_mask(function: str, where: Any, like: Array) -> Array | None:
    """`where` as a boolean array of the shape of the logits, or None."""
    if where is None:
        return None
    return _broadcast(function, "where", _boolean(function, where), like)


def broadcast_with(function: str, x: Array, **others: Any) -> Array:
    """`x`, of the shape that it and the others have together; None has none.

    Where there is no such shape, what checks the others has the sentence for it.
    """
    shapes = [as_array(function, name, v).shape for name, v in others.items() if v is not None]
    try:
        shape = jnp.broadcast_shapes(x.shape, *shapes)
    except ValueError:
        return x
    if shape == x.shape:
        return x
    return jnp.broadcast_to(jnp.expand_dims(x, range(len(shape) - x.ndim)), shape)


def masked(x: Array, mask: Array | None, axes: Axes) -> tuple[Array, Array | None]:
    """`x` with -inf where `mask` is False, and which rows have a class left."""
    if mask is None:
        return x, None
    hidden = jnp.asarray(-jnp.inf, x.dtype)
    return select(mask, x, hidden), jnp.any(mask, axes, keepdims=True)


def masked_rows(x: Array, mask: Array | None, axes: Axes) -> tuple[Array, Array | None]:
    """The same, with 0 throughout a row with no class left, of which -inf would make NaN."""
    x, alive = masked(x, mask, axes)
    return x if alive is None else select(alive, x, 0), alive


def loss_masks(
    function: str, where: Any, x: Array, class_axes: Axes
) -> tuple[Array | None, Array | None]:
    """`where` as a mask of the classes of each row, of the shape of the logits, or one of the rows.

    That of rows has the dimensions of the losses, as in optax; it comes with the class axes in
    place, with length 1.
    """
    if where is None:
        return None, None
    mask = _boolean(function, where)
    if mask.ndim == x.ndim:
        return _broadcast(function, "where", mask, x), None
    batch = tuple(i for i in range(x.ndim) if i not in class_axes)
    if mask.ndim == len(batch):
        rows = _broadcast(function, "where", mask, x, batch)
        return None, jnp.expand_dims(rows, class_axes)
    raise ValueError(
        f"{function}: where must have the {x.ndim} dimensions of the logits, a mask of classes, or "
        f"the {len(batch)} of the losses, a mask of rows, got {_kind(mask)}. A mask of classes for "
        f"all rows is where.reshape{_for_all_rows(x, class_axes)}."
    )


def _for_all_rows(x: Array, class_axes: Axes) -> str:
    return str(tuple(n if i in class_axes else 1 for i, n in enumerate(x.shape)))


def _boolean(function: str, where: Any) -> Array:
    mask = as_array(function, "where", where)
    if mask.dtype != jnp.bool_:
        raise TypeError(f"{function}: where must be boolean, got {_kind(mask)}. Write where != 0.")
    return mask


def zero_or_one(value: Any) -> Any:
    """`value`, with 0 and 1 in the place of booleans."""
    is_boolean = hasattr(value, "dtype") and value.dtype == jnp.bool_
    return jnp.asarray(value, jnp.float32) if is_boolean else value


def weights(function: str, name: str, value: Any, like: Any) -> Array:
    """Floating-point weights of a shape, or of that of an array and beside it."""
    if isinstance(like, tuple):
        like = jax.ShapeDtypeStruct(like, jnp.float32)
    return _broadcast(function, name, floating(function, name, value), like)


def _broadcast(
    function: str, name: str, array: Array, like: Any, axes: Axes | None = None
) -> Array:
    """`array` of the shape that the logits have along `axes`, or all of them, and beside these."""
    axes = tuple(range(like.ndim)) if axes is None else axes
    shape = tuple(like.shape[axis] for axis in axes)
    missing = len(shape) - array.ndim
    # One by one, since a size may be a symbol (`jax.export`).
    fits = missing >= 0 and all(
        n == 1 or n == wanted for n, wanted in zip(array.shape, shape[missing:], strict=True)
    )
    if not fits:
        raise ValueError(
            f"{function}: {name} must broadcast to the shape {shape}, got {_kind(array)}."
        )
    # Not jnp.broadcast_to: under numpy_rank_promotion="raise" it warns of what is meant here.
    array = placed_like(jnp.expand_dims(array, range(missing)), like, axes)
    beside: Array = placed_like(jnp.broadcast_to(array, shape), like, axes)
    return beside


def are_classes(labels: Any) -> bool:
    """Whether labels are class indices rather than distributions, or nothing at all."""
    try:
        return jnp.issubdtype(jnp.result_type(labels), jnp.integer)
    except (TypeError, ValueError):  # what checks distributions has the sentence for it
        return False


def integer_labels(
    function: str,
    labels: Any,
    x: Array,
    class_axes: Axes,
    *,
    what: str = "logits",
    name: str = "labels",
) -> Array:
    """Class labels of the batch shape of `x`."""
    _refuse_wide_labels(function, labels, name)
    array = as_array(function, name, labels)
    axes = tuple(i for i in range(x.ndim) if i not in class_axes)
    batch = tuple(x.shape[i] for i in axes)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(
            f"{function}: {name} must be integers of shape {batch}, got {_kind(array)}. "
            "For class probabilities use softmax_cross_entropy."
        )
    if array.shape != batch:
        raise ValueError(
            f"{function}: {name} must have the shape {batch}, which is the shape {x.shape} of the "
            f"{what} without the class axis, got {_kind(array)}."
        )
    # Room for comparing with every class, and for telling a negative label from a large one.
    array = array if array.dtype.itemsize >= 4 else array.astype(jnp.int32)
    beside: Array = placed_like(array, x, axes)
    return beside


def _refuse_wide_labels(function: str, labels: Any, name: str) -> None:
    """JAX would cut 64-bit labels to 32 bits without a word, and a wrong class would be right."""
    if not isinstance(labels, (np.ndarray, np.generic, int)):
        return
    given = np.asarray(labels)
    whole = given.dtype.kind in "iu" or isinstance(labels, int)
    if not whole or given.size == 0:
        return
    limits = np.iinfo(
        jax.dtypes.canonicalize_dtype(np.int64 if given.dtype == object else given.dtype)
    )
    if given.max() > limits.max or given.min() < limits.min:
        outside = (given > limits.max) | (given < limits.min)
        index = tuple(int(i) for i in np.argwhere(outside)[0])
        where = f" at index {index}" if given.ndim else ""
        raise ValueError(f"{function}: {name} must fit {limits.dtype}, got {given[index]}{where}.")


def distribution_labels(function: str, labels: Any, x: Array, *, what: str = "logits") -> Array:
    """Target distributions of exactly the shape of `x`."""
    array = as_array(function, "labels", zero_or_one(labels))
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
    beside: Array = placed_like(floating(function, "labels", array), x, tuple(range(x.ndim)))
    return beside


def class_weights(function: str, value: Any, x: Array, class_axes: Axes) -> Array | None:
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
    ndim, axis = x.ndim - len(class_axes) + 1, merged_axis(x.ndim, class_axes)
    # Classes of several axes are merged on every device.
    beside: Array = placed_like(array, x, class_axes if len(class_axes) == 1 else (None,))
    return beside.reshape([classes if i == axis else 1 for i in range(ndim)])


def ignore_index(function: str, value: Any) -> int | None:
    """The label of rows to leave out, or None."""
    if value is None:
        return None
    if not is_index(value):
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


def as_array(function: str, name: str, value: Any) -> Array:
    """`value` as JAX has it: an array or a number, and nothing that must be guessed at."""
    if isinstance(value, (list, tuple)) or value is None:
        raise TypeError(
            f"{function}: {name} must be an array, got a {type(value).__name__}. "
            f"Write jnp.asarray({name})."
        )
    if isinstance(value, Array):
        return value
    try:
        return jnp.asarray(value)
    except TypeError:
        came = _kind(value) if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"{function}: {name} must be an array of numbers, got {came}.") from None
    except OverflowError:
        sentence = f"{function}: {name} must fit an integer of 32 bits, got {value}. "
        raise ValueError(sentence + f"Write jnp.float32({name}).") from None


def _kind(array: Array | np.ndarray[Any, Any]) -> str:
    return f"{array.dtype}{list(array.shape)}"
