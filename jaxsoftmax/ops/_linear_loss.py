"""From checked arguments to the linear loss: rows that count, blocks, reduction, devices."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec

from jaxsoftmax.autodiff import scaled
from jaxsoftmax.autodiff.varying import varying

from . import _linear_arguments as linear
from ._linear_block import Masks, Plan
from ._linear_stream import row_losses, total_loss
from ._loss_stats import LossStats
from .call import arguments
from .call.options import Options
from .devices import mesh
from .devices.classes import Names


class Given(NamedTuple):
    """The arrays, with the batch axes as they came."""

    features: Any  # (..., D)
    kernel: Any  # (D, C)
    bias: Any  # (C,), or None
    labels: Any  # (...) integer, or (..., C)
    class_weights: Any  # (1, C), or None
    weights: Any  # (...), or None
    classes: Any  # mask (1, C), or None
    entries: Any  # mask (..., C), or None


# What the axes of the arrays stand for; labels that are distributions have classes as well.
_AXES = Given(
    features=(mesh.ROWS, None),
    kernel=(None, mesh.CLASSES),
    bias=(mesh.CLASSES,),
    labels=(mesh.ROWS,),
    class_weights=(None, mesh.CLASSES),
    weights=(mesh.ROWS,),
    classes=(None, mesh.CLASSES),
    entries=(mesh.ROWS, mesh.CLASSES),
)


class Job(NamedTuple):
    """The static options."""

    options: Options
    reduction: linear.Reduction
    ignore_index: int | None
    stats: bool
    sizes: linear.Sizes
    dtype: Any  # of the losses
    classes: Names | None  # the mesh axes of a surrounding shard_map that spread the classes
    rows: tuple[str, ...] = ()  # and those that spread the rows, if the mean is to be over all


def linear_loss(given: Given, job: Job) -> tuple[Array, LossStats | None]:
    """The loss, and the statistics of the rows if they are asked for."""
    batch, classes = given.features.shape[:-1], given.kernel.shape[1]
    axes = _AXES
    if not arguments.are_classes(given.labels):
        axes = axes._replace(labels=(mesh.ROWS, mesh.CLASSES))
    place = mesh.layout(given, axes, batch, classes, spread=job.classes is None)
    if place is None:
        return _local_loss(given, job)
    here = job._replace(rows=place.row_axes, classes=job.classes or place.class_axes)
    of_rows: Any = place.spec((mesh.ROWS,))
    out_specs = (
        of_rows if job.reduction == "none" else PartitionSpec(),
        LossStats(*[of_rows] * len(LossStats._fields)) if job.stats else None,
    )

    def local(*arrays: Any) -> tuple[Array, LossStats | None]:
        return _local_loss(Given(*arrays), here)

    loss: tuple[Array, LossStats | None] = mesh.on_each_device(local, given, axes, place, out_specs)
    return loss


def _local_loss(given: Given, job: Job) -> tuple[Array, LossStats | None]:
    """The loss of what this device has, with what it shares with others added up."""
    batch, classes = given.features.shape[:-1], given.kernel.shape[1]
    rows, axes = math.prod(batch), linear.axes(job.rows, job.classes)
    flat = _flat(Given(*varying(given, axes)), batch)
    masks = _masks(flat, job)
    block = job.sizes.rows(rows, classes, job.dtype)
    may_cut = not job.classes and not mesh.is_automatic(*given)
    tile = job.sizes.tile(rows, classes, job.dtype) if may_cut else None
    plan = Plan(job.options, block, jnp.dtype(job.dtype), job.stats, job.classes, tile)
    if job.reduction == "none":
        losses, stats = linear.whole(row_losses(*flat[:5], masks, plan=plan), job.classes)
        loss = losses.reshape(batch)
        loss = loss if given.weights is None else scaled(loss, given.weights)
    else:
        u = linear.shares(flat.weights, rows, masks.keep, plan.dtype, job.reduction, job.rows)
        share, stats = total_loss(*flat[:5], u, masks, plan=plan)
        loss, stats = linear.whole(share, axes), linear.whole(stats, job.classes)
    return loss, None if stats is None else _shaped(stats, batch)


def _flat(given: Given, batch: tuple[int, ...]) -> Given:
    """The arrays with the batch axes made one."""

    def flat(x: Array | None) -> Array | None:
        return None if x is None else x.reshape(math.prod(batch), *x.shape[len(batch) :])

    names = ("features", "labels", "weights", "entries")
    arrays: dict[str, Any] = {name: flat(getattr(given, name)) for name in names}
    return given._replace(**arrays)


def _shaped(stats: LossStats, batch: tuple[int, ...]) -> LossStats:
    """Statistics in the batch shape, with a prediction that can index."""
    shaped = LossStats(*(value.reshape(batch) for value in stats))
    return shaped._replace(prediction=shaped.prediction.astype(jnp.int32))


def _masks(flat: Given, job: Job) -> Masks:
    """The masks of the classes, and which rows count."""
    rows, keep, count = flat.features.shape[0], [], None
    if job.ignore_index is not None:
        keep.append(flat.labels != jnp.asarray(job.ignore_index, flat.labels.dtype))
    if flat.weights is not None:
        keep.append(flat.weights != 0)
    mask = flat.classes if flat.entries is None else flat.entries
    if mask is not None:
        number = linear.whole(jnp.sum(mask, 1, dtype=jnp.int32), job.classes)
        number = varying(jnp.broadcast_to(number, (rows,)), linear.axes(job.rows, job.classes))
        keep.append(number > 0)
        count = number.astype(job.dtype)[:, None] if job.options.label_smoothing else None
    alive = functools.reduce(jnp.logical_and, keep) if keep else None
    return Masks(flat.classes, flat.entries, alive, count)
