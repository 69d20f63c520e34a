"""Arguments that the losses of linear classifiers share."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ._blocks import Tile, block_rows, block_tile
from ._product import product_dtype
from .call import arguments
from .call.axes import class_axes
from .devices.classes import Names
from .row.exponentials import wide

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


def axes(rows: tuple[str, ...], classes: Names | None) -> tuple[str, ...]:
    """The mesh axes over which the rows or the classes are spread."""
    of_classes = (classes,) if isinstance(classes, str) else classes
    return (*rows, *(of_classes or ()))


def whole(shares: Any, axes: Names | None) -> Any:
    """What the shares of the devices along these axes add up to."""
    return lax.psum(shares, axes) if axes else shares


class Sizes(NamedTuple):
    """What the caller says about the size of a block."""

    block_size: int | None
    memory_budget: int | None

    @classmethod
    def checked(cls, function: str, block_size: int | None, memory_budget: int | None) -> Sizes:
        """Sizes in range, or an error that says what the range is."""
        return cls(
            _positive(function, "block_size", block_size),
            _positive(function, "memory_budget", memory_budget),
        )

    def rows(self, number: int, classes: int, dtype: Any) -> int:
        """Rows in a block."""
        if self.block_size is not None:
            return min(self.block_size, max(1, number))
        return block_rows(number, classes * jnp.dtype(dtype).itemsize, self.memory_budget)

    def tile(self, number: int, classes: int, dtype: Any) -> Tile | None:
        """The tile to work with where a block cannot have all classes, or None."""
        if self.block_size is not None:
            return None
        return block_tile(number, classes, jnp.dtype(dtype).itemsize, self.memory_budget)


def _positive(function: str, name: str, value: int | None) -> int | None:
    if value is None:
        return None
    whole = arguments.number(
        function, name, value, lambda v: v >= 1 and v == int(v), "a whole number, at least 1"
    )
    return int(whole)


def shares(
    weights: Array | None,
    rows: int,
    keep: Array | None,
    dtype: Any,
    reduction: Reduction,
    axes: tuple[str, ...] = (),
) -> Array:
    """What the loss of each row is multiplied by before they are added up.

    Args:
      weights: of the rows (N,), or None for 1.
      rows: N.
      keep: which rows count, or None for all.
      dtype: of the result.
      reduction: "mean" or "sum".
      axes: the mesh axes of a surrounding shard_map over which the rows are spread.
    """
    u = jnp.ones(rows, dtype) if weights is None else weights
    u = u if keep is None else jnp.where(keep, u, jnp.zeros_like(u))
    if reduction == "sum":
        return u
    total = whole(jnp.sum(u), axes)
    return u / jnp.where(total == 0, jnp.ones_like(total), total)
