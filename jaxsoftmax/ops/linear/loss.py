"""From checked arguments to a linear loss: rows that count, blocks, reduction, devices."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec

from jaxsoftmax.autodiff import differentiates_as, scaled
from jaxsoftmax.autodiff.select import select
from jaxsoftmax.autodiff.varying import varying
from jaxsoftmax.ops.call.options import counted
from jaxsoftmax.ops.devices import mesh
from jaxsoftmax.ops.row.label import nan_where

from .problem import Rows, Settings, Shared, Sizes, axes_of, mask_of
from .rules import row_values, total_loss
from .stats import LossStats, without
from .with_derivatives import with_derivatives


def linear_loss(shared: Shared, rows: Rows, settings: Settings, sizes: Sizes) -> tuple[Any, Any]:
    """The loss, or the values of the rows; and what the rows tell besides."""
    batch, classes = rows.features[0].shape[:-1], shared.kernels[0].shape[1]
    arrays, axes = (shared, rows), axes_of(shared, rows)
    place = mesh.layout(arrays, axes, batch, classes, spread=settings.axis_name is None)
    if place is None:
        return _on_this_device(shared, rows, settings, sizes)
    here = settings._replace(
        row_axes=place.row_axes, axis_name=settings.axis_name or place.class_axes
    )
    of_rows = place.spec((mesh.ROWS,))
    out_specs = of_rows if settings.reduction == "none" else PartitionSpec(), of_rows

    def local(arrays: tuple[Shared, Rows]) -> tuple[Any, Any]:
        return _on_this_device(*arrays, here, sizes)

    loss: tuple[Any, Any] = mesh.on_each_device(local, arrays, axes, place, out_specs)
    return loss


def _on_this_device(
    shared: Shared, rows: Rows, settings: Settings, sizes: Sizes
) -> tuple[Any, Any]:
    """The same of what this device has, with what it shares with others added up."""
    batch, classes = rows.features[0].shape[:-1], shared.kernels[0].shape[1]
    number, maps = math.prod(batch), len(shared.kernels)
    rows = jax.tree.map(lambda a: a.reshape(number, *a.shape[len(batch) :]), rows)
    shared, rows = varying((shared, rows), settings.axes)
    given, weighed = rows.weights, settings.losses.weighed
    counts = None if given is None else given != 0
    usable = _usable(rows) if weighed else counts
    rows = _counted(shared, rows, usable, settings)
    if not weighed:
        rows = rows._replace(weights=None)
    may_tile = settings.axis_name is None and not mesh.is_automatic(
        *jax.tree.leaves((shared, rows))
    )
    how: Any = {
        "settings": settings,
        "size": sizes.rows(
            number,
            maps * classes * jnp.dtype(settings.dtype).itemsize,
            sum(features.shape[1] * features.dtype.itemsize for features in rows.features),
        ),
        "tile": sizes.tile(number, classes, settings.dtype) if may_tile else None,
    }
    nothing = _zero(usable, given) if weighed and usable is not None else None

    def of_batch(values: Any) -> Any:
        whole = _whole(values, settings.axis_name)
        return jax.tree.map(lambda y: y.reshape(*batch, *y.shape[1:]), whole)

    if settings.reduction == "none":
        values, others = row_values(shared, rows, **how)
        values = values if nothing is None else jax.tree.map(_plus(nothing), values)
        values = of_batch(values)
    else:
        loss_rows = rows._replace(weights=_shares(rows, number, settings))
        values, others = total_loss(shared, loss_rows, **how)
        values = values if nothing is None else values + jnp.sum(nothing)
        values = _whole(values, settings.axes)
    if isinstance(others, LossStats):
        others = with_derivatives(others, shared, rows._replace(weights=None), **how)
    keep = counted(rows.labels, None, rows.keep, counts)
    return values, of_batch(without(others, keep, settings.classes))


def _plus(nothing: Array) -> Callable[[Array], Array]:
    """To add something of each row, (N,), to values of it."""
    return lambda y: y + jnp.expand_dims(nothing, tuple(range(1, y.ndim))).astype(y.dtype)


def _counted(shared: Shared, rows: Rows, usable: Array | None, settings: Settings) -> Rows:
    """The rows, and which of them count."""
    mask, alive, count = mask_of(shared, rows), None, None
    if mask is not None:
        number = _whole(jnp.sum(mask, 1, dtype=jnp.int32), settings.axis_name)
        number = jnp.broadcast_to(number, rows.features[0].shape[:1])
        number = varying(number, settings.axes)
        alive = number > 0
        count = number.astype(settings.dtype)[:, None] if settings.losses.counts else None
    index = settings.ignore_index
    if index is not None and rows.labels.ndim > 1:
        given = counted(rows.labels, index)
        rows = _without_ignored(rows, given, settings.dtype)
        any_given = None if given is None else jnp.any(given, 1)
        index, alive = None, counted(rows.labels, None, alive, any_given)
    keep = counted(rows.labels, index, alive, usable)
    if keep is None and not isinstance(rows.features[0].shape[0], int):
        keep = jnp.ones(rows.features[0].shape[:1], bool)  # False in rows that fill a block up
    return rows._replace(keep=keep, admissible=count)


def _without_ignored(rows: Rows, given: Array | None, dtype: Any) -> Rows:
    """The rows with no class, and the weight 0, where one of several labels is to be ignored."""
    if given is None:  # no label can be that number
        return rows
    no_class = jnp.full_like(rows.labels, -1)
    weights = rows.label_weights
    weights = jnp.ones(given.shape, dtype) if weights is None else weights
    weights = select(given, weights, 0)
    return rows._replace(labels=select(given, rows.labels, no_class), label_weights=weights)


def _usable(rows: Rows) -> Array | None:
    """Rows that weigh something, or have finite features: 0 times any others would be NaN.

    What weighs nothing is not left out for that alone. Its weight may be differentiated.
    """
    if rows.weights is None:
        return None
    weigh = rows.weights != 0

    def look() -> Array:
        # Finite if the largest is; XLA writes the answers of `isfinite` to memory, N · D of them.
        finite = [
            jnp.isfinite(jnp.max(jnp.abs(lax.stop_gradient(features)), 1, initial=0))
            for features in rows.features
        ]
        found: Array = weigh | functools.reduce(jnp.logical_and, finite)
        return found

    usable: Array = lax.cond(jnp.all(weigh), lambda: weigh, look)
    return usable


def _none_at_zero(usable: Array, weights: Array) -> Array:
    return scaled(nan_where(~usable, weights.dtype), weights)


@differentiates_as(_none_at_zero)
def _zero(usable: Array, weights: Array) -> Array:
    """0, whose derivative in the weight of a row that cannot be used is NaN, as its loss is."""
    del usable
    return jnp.zeros_like(weights)


def _shares(rows: Rows, number: int, settings: Settings) -> Array:
    """What the loss of each row is multiplied by before they are added up."""
    u = jnp.ones(number, settings.dtype) if rows.weights is None else rows.weights
    u = u if rows.keep is None else select(rows.keep, u, 0)
    if settings.reduction == "sum":
        return u
    total = _whole(jnp.sum(u), settings.row_axes)
    return u / select(total == 0, 1, total)


def _whole(shares: Any, axes: Any) -> Any:
    """What the shares of the devices along these axes add up to."""
    return lax.psum(shares, axes) if axes else shares
