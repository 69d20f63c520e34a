"""The loop of a run: `begin`, then `advance` until `finished`. Each is a pure function.

    state = begin(job)
    while not finished(job, state):
        state = advance(job, state)      # may be saved here, and loaded, and continued

A solver that needs all rows makes one step at a time; one that works on batches as many as are
compiled into one program, at most to the end of the epoch.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.data import Dataset, batches
from jaxsoftmax.training.data.dataset import Part
from jaxsoftmax.training.errors import InputError, RunFailedError
from jaxsoftmax.training.model.classifier import logits
from jaxsoftmax.training.solvers import Params, Problem, Settings, Solver, State, Status
from jaxsoftmax.training.solvers.first_order import FirstOrder
from jaxsoftmax.training.solvers.problem import objective
from jaxsoftmax.training.solvers.schedules import Horizon
from jaxsoftmax.training.solvers.state import finished as solved

from .state import Best, Position, Record, RunState


class Scores(NamedTuple):
    """Mean cross-entropy (nats) and share of right predictions, both scalars."""

    loss: Array
    accuracy: Array


class Job(NamedTuple):
    """What a run works with: a pure function of its config and its data, made again on resume.

    Attributes:
      config: of the run.
      dataset: the rows; `train` and `validation` are on the device.
      solver: what makes the steps.
      settings: when the solver stops.
      horizon: how many steps an epoch and the whole stage have.
      batch_size: rows a step; None for solvers that see all.
    """

    config: RunConfig
    dataset: Dataset
    train: Problem
    validation: Problem
    solver: Solver
    settings: Settings
    horizon: Horizon
    batch_size: int | None


def prepare(config: RunConfig, dataset: Dataset) -> Job:
    """Everything that the loop needs and that does not change.

    Raises:
      InputError: the batch is larger than the training part.
    """
    choice, rows = config.solver, len(dataset.part("train").labels)
    batch_size = None if choice.needs_full_batch else choice.batch_size
    horizon = plan(config, rows)
    settings = (
        Settings(choice.tolerance, choice.max_iterations)
        if choice.needs_full_batch
        else Settings(0.0, horizon.steps)
    )
    return Job(
        config,
        dataset,
        problem(dataset.part("train"), config.model.l2),
        problem(dataset.part("validation"), 0.0),
        FirstOrder(choice.build(horizon), line_search=choice.needs_full_batch),
        settings,
        horizon,
        batch_size,
    )


def plan(config: RunConfig, rows: int) -> Horizon:
    """How many steps an epoch and the run take."""
    if config.solver.needs_full_batch:
        return Horizon(1, config.solver.max_iterations)
    size = config.solver.batch_size or rows
    if size > rows:
        raise InputError(
            f"[solver] batch_size is {size} but the training part has {rows} rows; "
            f"leave batch_size out to use all rows in every step"
        )
    steps = math.ceil(rows / size)
    return Horizon(steps, steps * config.solver.epochs)


def problem(part: Part, l2: float) -> Problem:
    """Rows on the device."""
    features, labels, weights = (jnp.asarray(array) for array in part)
    return Problem(features, labels, weights, jnp.float32(l2))


def begin(job: Job) -> RunState:
    """The state before the first step. All parameters are 0: the loss is convex and starts at ln C."""
    dataset = job.dataset
    width, classes = dataset.features.shape[1], len(dataset.classes)
    zeros = jnp.zeros((1 + width, classes), jnp.float32)
    params = Params(zeros[1:], zeros[0] if job.config.model.bias else None)
    solver = _init(job.solver, job.train, params, job.settings)
    return RunState(
        job.config,
        dataset.fingerprint,
        dataset.columns,
        dataset.classes,
        solver,
        Best(params, math.log(classes)),
        Position(),
        (),
    )


def finished(job: Job, state: RunState) -> bool:
    """Whether the solver has stopped; what it has left undone is in ``state.solver.status``."""
    return bool(solved(state.solver))


def advance(job: Job, state: RunState, steps: int | None = None) -> RunState:
    """The state at the next place where a run can be left and taken up again.

    Args:
      job: what the run works with.
      state: where it is.
      steps: at most so many, for solvers that work on batches; to the end of the epoch when left
        out. The state after an epoch does not depend on where it was interrupted.

    Raises:
      RunFailedError: the objective or the gradient is no longer finite.
    """
    stage, epoch, first = state.position
    stop = job.horizon.steps_per_epoch
    last = stop if steps is None else min(first + steps, stop)
    if job.batch_size is None:
        solver = _full_step(job.solver, job.train, state.solver)
    else:
        numbers = (jnp.int32(number) for number in (epoch, first, last))
        solver = _batch_steps(
            job.solver, job.config.seed, job.batch_size, job.train, state.solver, *numbers
        )
    _check_finite(job, state.position, solver)
    if last < stop:
        return state._replace(solver=solver, position=Position(stage, epoch, last))
    record = _record(job, solver, stage, epoch + 1)
    return state._replace(
        solver=solver,
        best=Best(solver.params, record.validation_loss),
        position=Position(stage, epoch + 1, 0),
        records=(*state.records, record),
    )


@jax.jit
def scores(params: Params, rows: Problem) -> Scores:
    """Loss (without the penalty) and accuracy."""
    right = jnp.argmax(logits(params, rows.features), axis=-1) == rows.labels
    plain = Problem(rows.features, rows.labels, rows.weights)
    return Scores(objective(plain, params), jnp.mean(right, dtype=jnp.float32))


_init = jax.jit(lambda solver, *arguments: solver.init(*arguments), static_argnums=0)
_full_step = jax.jit(lambda solver, *arguments: solver.step(*arguments), static_argnums=0)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _batch_steps(
    solver: Solver,
    seed: int,
    size: int,
    rows: Problem,
    state: State,
    epoch: Array,
    first: Array,
    last: Array,
) -> State:
    """Steps ``first`` to ``last`` of an epoch; no other number of steps compiles another program."""
    count = len(rows.labels)
    order = batches.order(seed, epoch, count, math.ceil(count / size) * size)

    def step(number: Array, state: State) -> State:
        chosen, counted = batches.batch(order, number, size, count)
        weights = rows.weights[chosen] * counted
        part = Problem(rows.features[chosen], rows.labels[chosen], weights, rows.l2)
        return solver.step(part, state)

    return jax.lax.fori_loop(first, last, step, state)


def _check_finite(job: Job, position: Position, solver: State) -> None:
    if solver.status == Status.DIVERGED:
        raise RunFailedError(
            f"The loss or its gradient is no longer finite in epoch {position.epoch + 1}, step "
            f"{int(solver.iterations) - position.epoch * job.horizon.steps_per_epoch} of "
            f"{job.horizon.steps_per_epoch}; no model was written. "
            f"A smaller solver.learning_rate or a solver.clip_norm usually helps."
        )


def _record(job: Job, solver: State, stage: int, epoch: int) -> Record:
    train, validation = scores(solver.params, job.train), scores(solver.params, job.validation)
    return Record(
        stage,
        epoch,
        float(job.train.l2),
        float(solver.objective),
        float(solver.gradient_norm),
        float(train.loss),
        float(train.accuracy),
        float(validation.loss),
        float(validation.accuracy),
    )
