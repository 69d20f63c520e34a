"""What a run works with: its rows on the devices, its problems, its solver; nothing of it changes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.data import Dataset
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.solvers import Problem, Solver
from jaxsoftmax.training.solvers.optimizers import FullBatch
from jaxsoftmax.training.solvers.schedules import Horizon
from jaxsoftmax.training.sparse import Matrix, SparseRows

from . import plan
from .devices import Devices, mesh_of, padded

PLACES = 64  # the loss takes a block from so many places; a multiple of them needs no copy


class Job(NamedTuple):
    """What a run works with: a pure function of its config and its data, made again on resume.

    Attributes:
      config: of the run.
      dataset: the rows.
      rows: those of train and validation, on the device, with their weights.
      train: ``(N,)`` weights that are 0 on the validation rows.
      validation: ``(N,)`` weights that are 0 on the training rows.
      folds: ``(K, N)`` weights of the problems that are solved side by side on the path.
      path: the penalties to choose from; none where the penalty is given.
      solver: what makes the steps.
      horizon: how many steps an epoch and the whole stage have.
      batch_size: rows a step; None for solvers that see all.
      devices: where the arrays lie.
    """

    config: RunConfig
    dataset: Dataset
    rows: Problem
    train: Array
    validation: Array
    folds: Array
    path: tuple[float, ...]
    solver: Solver
    horizon: Horizon
    batch_size: int | None
    devices: Devices


def prepare(config: RunConfig, dataset: Dataset) -> Job:
    """Everything that the loop needs and that does not change.

    Raises:
      InputError: the batch is larger than the training part.
    """
    horizon = horizon_of(config, len(dataset.part("train").labels))
    mesh = mesh_of(config.mesh, len(dataset.classes))
    stop = dataset.parts.validation.stop
    end = padded(stop, PLACES, mesh)
    if mesh is None:
        end = min(end, len(dataset.labels))
    devices = Devices(mesh, end, len(dataset.classes))

    weights = plan.row_weights(config, dataset)
    train = np.where(np.arange(stop) < dataset.parts.train.stop, weights, 0)
    validation = np.zeros(stop, np.float32)
    validation[dataset.parts.validation] = dataset.part("validation").weights
    rows = Problem(  # rows that are missing have weight 0, as have test rows that lie among them
        placed(devices, dataset.features, jnp.dtype(config.columns.dtype)),
        devices.place_rows(dataset.labels),
        devices.place_rows(weights),
        l1=jnp.float32(config.model.l1),
        label_smoothing=config.model.label_smoothing,
    )
    choice = config.solver
    return Job(
        config,
        dataset,
        rows,
        devices.place_rows(train.astype(np.float32)),
        devices.place_rows(validation),
        devices.place_rows(plan.fold_weights(config, dataset), axis=1),
        plan.penalties(config, dataset),
        choice.solver(horizon),
        horizon,
        None if isinstance(choice, FullBatch) else choice.batch_size or dataset.parts.train.stop,
        devices,
    )


def placed(devices: Devices, features: Matrix, dtype: Any) -> Any:
    """Features on the devices; sparse ones stay so."""
    if not isinstance(features, SparseRows):
        return devices.place_rows(features, dtype=dtype)
    return SparseRows(
        devices.place_rows(features.columns),
        devices.place_rows(features.values, dtype=dtype),
        devices.place(features.base.astype(dtype)),
    )


def horizon_of(config: RunConfig, rows: int) -> Horizon:
    """How many steps an epoch and the run take."""
    solver = config.solver
    if isinstance(solver, FullBatch):
        return Horizon(1, solver.max_iterations)
    size = solver.batch_size or rows
    if size > rows:
        raise InputError(
            f"[solver] batch_size is {size} but the training part has {rows} rows; "
            f"leave batch_size out to use all rows in every step"
        )
    steps = math.ceil(rows / size)
    return Horizon(steps, steps * solver.epochs)
