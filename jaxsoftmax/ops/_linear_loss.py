"""From checked arguments to the linear loss: rows that count, blocks, reduction, devices."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from . import _linear_arguments as linear
from . import _numerics as numerics
from ._blocks import varying
from ._linear_stream import Masks, Plan, row_losses, total_loss
from ._loss_stats import LossStats
from ._options import Options
from ._spread import Names


class Given(NamedTuple):
    """The arrays, with the batch axes as they came."""

    features: Array  # (..., D)
    kernel: Array  # (D, C)
    bias: Array | None  # (C,)
    labels: Array  # (...) integer, or (..., C)
    class_weights: Array | None  # (1, C)
    weights: Array | None  # (...)
    classes: Array | None  # mask (1, C)
    entries: Array | None  # mask (..., C)


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
    return _local_loss(given, job)


def _local_loss(given: Given, job: Job) -> tuple[Array, LossStats | None]:
    """The loss of what this device has, with what it shares with others added up."""
    batch, classes = given.features.shape[:-1], given.kernel.shape[1]
    rows, axes = math.prod(batch), linear.axes(job.rows, job.classes)
    flat = _flat(Given(*varying(given, axes)), batch)
    masks = _masks(flat, job)
    block = job.sizes.rows(rows, classes, job.dtype)
    plan = Plan(job.options, block, jnp.dtype(job.dtype), job.stats, job.classes)
    if job.reduction == "none":
        losses, stats = linear.whole(row_losses(*flat[:5], masks, plan=plan), job.classes)
        loss = losses.reshape(batch)
        loss = loss if given.weights is None else numerics.scaled(loss, given.weights)
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
        count = number.astype(job.dtype)[:, None] if job.classes else None
    alive = functools.reduce(jnp.logical_and, keep) if keep else None
    return Masks(flat.classes, flat.entries, alive, count)
