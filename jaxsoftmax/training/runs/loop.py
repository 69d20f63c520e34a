"""The loop of a run: `begin`, then `advance` until `finished`. Each is a pure function.

    job = prepare(config, dataset)
    state = begin(job)
    while not finished(job, state):
        state = advance(job, state)      # may be saved here, and loaded, and continued

A solver that needs all rows makes one step at a time; one that works on batches as many as are
compiled into one program, at most to the end of the epoch.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsoftmax.training.data import batches
from jaxsoftmax.training.errors import RunFailedError
from jaxsoftmax.training.solvers import Params, Problem, Settings, State, Status
from jaxsoftmax.training.solvers.optimizers import FirstOrder, FullBatch
from jaxsoftmax.training.solvers.problem import ROWS
from jaxsoftmax.training.solvers.state import finished as solved

from . import plan, programs
from .job import Job as Job
from .job import prepare as prepare
from .state import Best, Leaves, Position, Record, RunState

PATH_TOLERANCE = 1e-5  # good enough to compare penalties


class DivergedError(RunFailedError):
    """The objective or the gradient is not finite.

    Attributes:
      good: how many steps of the call went well before that.
    """

    def __init__(self, message: str, good: int) -> None:
        """Says where, and keeps how far one can go."""
        super().__init__(message)
        self.good = good


def begin(job: Job) -> RunState:
    """The state before the first step; all parameters are 0, where the loss is ln C."""
    dataset, params = job.dataset, job.devices.place(_zeros(job))
    stage = plan.next_stage(job.path, ())
    solver = _started(job, stage, (), _for_stage(job, stage, params))
    return RunState(
        job.config,
        dataset.fingerprint,
        dataset.columns,
        dataset.classes,
        solver,
        Best(params, math.inf),
        Position(stage),
        (),
    )


def _zeros(job: Job) -> Params:
    width, classes = job.dataset.features.shape[1], len(job.dataset.classes)
    zeros = jnp.zeros((1 + width, classes), jnp.float32)
    return Params(zeros[1:], zeros[0] if job.config.model.bias else None)


def _for_stage(job: Job, stage: int, params: Params) -> Params:
    """On the path, a copy for each of the problems that are solved side by side."""
    if stage == len(job.path):
        return params
    copies: Params = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(job.folds)), params)
    return copies


def shapes(job: Job, position: Position, records: tuple[Record, ...]) -> Leaves:
    """Shapes and types of the arrays of a state at this position."""

    def leaves(params: Params) -> Leaves:
        start = _for_stage(job, position.stage, params)
        return Leaves(_start(job, position.stage, records, start), params)

    with job.devices.context():
        found: Leaves = jax.eval_shape(leaves, _zeros(job))
    return found


def taken_up(job: Job, state: RunState) -> RunState:
    """A state that was saved, as one of this job, whose config and rows it follows from now on."""
    settings = jax.tree.map(
        lambda now, was: jnp.broadcast_to(now, was.shape),
        _settings(job, state.position.stage),
        state.solver.settings,
    )
    solver = state.solver._replace(settings=settings)
    return state._replace(
        config=job.config,
        fingerprint=job.dataset.fingerprint,
        columns=job.dataset.columns,
        classes=job.dataset.classes,
        solver=job.devices.place(solver),
        best=state.best._replace(params=job.devices.place(state.best.params)),
    )


def gathered(job: Job, state: RunState) -> RunState:
    """The same state with whole arrays of NumPy, in every process."""
    leaves = job.devices.gather(state.leaves)
    return state._replace(solver=leaves.solver, best=state.best._replace(params=leaves.best))


def steps(job: Job, state: RunState) -> int:
    """The steps that a run has made, over all stages."""
    stage, epoch, step = state.position
    before = sum(record.epoch for record in state.records if record.stage < stage)
    return before + epoch * job.horizon.steps_per_epoch + step


def finished(job: Job, state: RunState) -> bool:
    """Whether the model is made; what the solver has left undone is in ``state.solver.status``."""
    return state.position.stage == len(job.path) and bool(solved(state.solver))


def advance(job: Job, state: RunState, steps: int | None = None) -> RunState:
    """The state at the next place where a run can be left and taken up again.

    Args:
      job: what the run works with.
      state: where it is.
      steps: at most so many, for solvers that work on batches; to the end of the epoch when left
        out. The state after an epoch does not depend on where it was interrupted.

    Raises:
      DivergedError: the objective or the gradient is no longer finite.
    """
    if state.position.stage < len(job.path):
        return _advance_path(job, state)
    stage, epoch, first = state.position
    stop = job.horizon.steps_per_epoch
    last = stop if steps is None else min(first + steps, stop)
    problem = _problem(job, state.records)
    if job.batch_size is None:
        with job.devices.context():
            solver = programs.step(job.solver, problem, state.solver)
    else:
        rows, numbers = job.dataset.parts.train.stop, map(jnp.int32, (epoch, first, last))
        shards = 1 if job.devices.mesh is None else job.devices.mesh.shape[ROWS]
        sizes = job.batch_size, rows, shards
        with job.devices.context():
            solver = programs.batch_steps(
                job.solver, job.config.seed, sizes, problem, state.solver, *numbers
            )
    solver = job.devices.place(solver)
    _check_finite(job, state.position, solver)
    if last < stop:
        return state._replace(solver=solver, position=Position(stage, epoch, last))
    record = _record(job, problem, solver, stage, epoch + 1, state.records)
    records = (*state.records, record)
    best = Best(solver.params, record.validation_loss)
    choice = job.config.solver
    patience = choice.patience if isinstance(choice, FirstOrder) else None
    if patience is not None:
        best = min(state.best, best, key=lambda one: one.validation_loss)
        if plan.stale(records) >= patience:
            solver = solver._replace(status=jnp.int32(Status.STOPPED_EARLY))
    return state._replace(
        solver=solver, best=best, position=Position(stage, epoch + 1, 0), records=records
    )


def _advance_path(job: Job, state: RunState) -> RunState:
    """One step of the problems that are solved side by side, or on to the next penalty."""
    stage, epoch, _ = state.position
    l2 = jnp.float32(job.path[stage])
    with job.devices.context():
        solver = programs.fold_steps(job.solver, job.rows, job.folds, l2, state.solver)
    solver = job.devices.place(solver)
    _check_finite(job, state.position, solver)
    state = state._replace(solver=solver, position=Position(stage, epoch + 1))
    if not bool(jnp.all(solved(solver))):
        return state
    scores = programs.fold_scores(job.rows, job.folds, solver.params)
    record = Record(
        stage,
        epoch + 1,
        job.path[stage],
        float(jnp.mean(solver.objective)),
        float(jnp.max(solver.gradient_norm)),
        *(float(score) for score in scores),
    )
    records = (*state.records, record)
    best, mean = state.best, jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), solver.params)
    if record.validation_loss < best.validation_loss:
        best = Best(mean, record.validation_loss)
    following = plan.next_stage(job.path, records)
    start = best.params if following == len(job.path) else solver.params
    return state._replace(
        solver=_started(job, following, records, start),
        best=best,
        position=Position(following),
        records=records,
    )


def _start(job: Job, stage: int, records: tuple[Record, ...], params: Params) -> State:
    """The solver before the first step of a stage."""
    settings = _settings(job, stage)
    if stage < len(job.path):
        l2 = jnp.float32(job.path[stage])
        start: State = programs.fold_init(job.solver, job.rows, job.folds, l2, params, settings)
    else:
        start = programs.init(job.solver, _problem(job, records), params, settings)
    return start


def _started(job: Job, stage: int, records: tuple[Record, ...], params: Params) -> State:
    """The same, laid out on the devices."""
    with job.devices.context():
        start = _start(job, stage, records, params)
    placed: State = job.devices.place(start)
    return placed


def _settings(job: Job, stage: int) -> Settings:
    """When the solver of a stage stops."""
    solver = job.config.solver
    if not isinstance(solver, FullBatch):
        return Settings(jnp.float32(0), jnp.int32(job.horizon.steps))
    on_path = stage < len(job.path)
    tolerance = max(solver.tolerance, PATH_TOLERANCE) if on_path else solver.tolerance
    return Settings(jnp.float32(tolerance), jnp.int32(solver.max_iterations))


def _problem(job: Job, records: tuple[Record, ...]) -> Problem:
    """The last problem: all rows with the chosen penalty, or the training rows with a given one."""
    if job.path:
        return programs.weighed(
            job.rows, job.rows.weights, jnp.float32(plan.best(job.path, records).l2)
        )
    return programs.weighed(job.rows, job.train, jnp.float32(job.config.model.l2))


def _check_finite(job: Job, position: Position, solver: State) -> None:
    if not np.any(np.asarray(solver.status) == Status.DIVERGED):
        return
    stop = job.horizon.steps_per_epoch
    step = int(np.max(solver.iterations)) - position.epoch * stop
    raise DivergedError(
        f"The loss or its gradient is no longer finite in epoch {position.epoch + 1}, step "
        f"{step} of {stop}{_rows_of(job, position, step)}; no model was written. "
        f"A smaller solver.learning_rate or a solver.clip_norm usually helps.",
        max(0, step - 1 - position.step),
    )


def _rows_of(job: Job, position: Position, step: int) -> str:
    """Which rows of the source a step has seen, unless it has seen all."""
    rows, size = job.dataset.parts.train.stop, job.batch_size or 0
    if not 0 < size < rows:
        return ""
    padded = math.ceil(rows / size) * size
    order = batches.order(job.config.seed, jnp.int32(position.epoch), rows, padded)
    seen = np.asarray(order[(step - 1) * size : min(step * size, rows)])
    numbers = np.sort(job.dataset.rows[seen])
    told = ", ".join(map(str, numbers[:8])) + (", …" if len(numbers) > 8 else "")
    return f" (rows {told} of the source, from 0)"


def _record(
    job: Job,
    problem: Problem,
    solver: State,
    stage: int,
    epoch: int,
    records: tuple[Record, ...],
) -> Record:
    zero = jnp.float32(0)
    train = programs.scores(solver.params, programs.weighed(job.rows, job.train, zero))
    if job.path:  # these rows train now; what they said of the penalty stands
        last = plan.best(job.path, records)
        validation = last.validation_loss, last.validation_accuracy
    else:
        validation = programs.scores(
            solver.params, programs.weighed(job.rows, job.validation, zero)
        )
    return Record(
        stage,
        epoch,
        float(jnp.asarray(problem.l2)),
        float(solver.objective),
        float(solver.gradient_norm),
        float(train.loss),
        float(train.accuracy),
        *map(float, validation),
    )
