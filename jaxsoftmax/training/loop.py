"""The training loop: an epoch is one compiled scan over batches that are already on the device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .config import RunConfig
from .errors import InputError, RunFailedError
from .model import Params, Rows, Scores, objective, scores
from .solvers.schedules import Horizon

Batch = tuple[Rows, jax.Array | None]  # rows, and their weights where some do not count


class State(NamedTuple):
    """What changes from step to step."""

    params: Params
    solver: Any


class EpochResult(NamedTuple):
    """What an epoch reports: the objective before each step, and scores after the last one."""

    step_losses: jax.Array
    train: Scores
    validation: Scores


class EpochRecord(NamedTuple):
    """One line of ``metrics.jsonl``."""

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


class Fit(NamedTuple):
    """The end of a run."""

    params: Params
    compile_seconds: float
    train_seconds: float


def fit(
    config: RunConfig,
    params: Params,
    train: Rows,
    validation: Rows,
    on_epoch: Callable[[EpochRecord], None],
) -> Fit:
    """Trains ``params`` for ``config.epochs`` epochs, calling ``on_epoch`` after each.

    Raises:
      RunFailedError: when a loss is no longer finite.
      InputError: when the batch is larger than the training part.
    """
    start = time.perf_counter()
    solver = config.optimizer.build(plan(config, len(train.labels)))
    state = State(params, jax.tree.map(_strong, solver.init(params)))
    epoch = make_epoch(config, solver)
    run = jax.jit(epoch).lower(state, jnp.int32(0), train, validation).compile()
    compiled = last = time.perf_counter()
    for number in range(1, config.epochs + 1):
        state, result = run(state, jnp.int32(number), train, validation)
        _check_finite(number, jax.device_get(result))
        now = time.perf_counter()
        on_epoch(_record(number, result, now - last))
        last = now
    return Fit(state.params, compiled - start, time.perf_counter() - compiled)


def plan(config: RunConfig, rows: int) -> Horizon:
    """How many steps an epoch and the run take."""
    batch_size = config.data.batch_size or rows
    if batch_size > rows:
        raise InputError(
            f"[data] batch_size is {batch_size} but the training part has {rows} rows; "
            f"leave batch_size out to use all rows in every step"
        )
    steps = math.ceil(rows / batch_size)
    return Horizon(steps, steps * config.epochs)


def make_epoch(
    config: RunConfig, solver: optax.GradientTransformationExtraArgs
) -> Callable[[State, jax.Array, Rows, Rows], tuple[State, EpochResult]]:
    """One epoch as a pure function of (state, epoch number, training rows, validation rows)."""

    def step(state: State, batch: Batch) -> tuple[State, jax.Array]:
        rows, weights = batch

        def value_fn(params: Params) -> jax.Array:
            return objective(params, rows, weights, l2=config.model.l2)

        if config.optimizer.needs_full_batch:  # the line search has already evaluated this point
            value, grad = optax.value_and_grad_from_state(value_fn)(
                state.params, state=state.solver
            )
        else:
            value, grad = jax.value_and_grad(value_fn)(state.params)
        updates, solver_state = solver.update(
            grad, state.solver, state.params, value=value, grad=grad, value_fn=value_fn
        )
        params = optax.apply_updates(state.params, updates)
        return State(params, solver_state), value

    def epoch(
        state: State, number: jax.Array, train: Rows, validation: Rows
    ) -> tuple[State, EpochResult]:
        batch_size = config.data.batch_size
        if batch_size is None:
            state, loss = step(state, (train, None))
            losses = loss[jnp.newaxis]
        else:
            order, counts = shuffled(config.seed, number, len(train.labels), batch_size)

            def numbered_step(
                state: State, batch: tuple[jax.Array, jax.Array]
            ) -> tuple[State, jax.Array]:
                rows = Rows(train.features[batch[0]], train.labels[batch[0]])
                return step(state, (rows, batch[1]))

            state, losses = jax.lax.scan(numbered_step, state, (order, counts))
        return state, EpochResult(
            losses, scores(state.params, train), scores(state.params, validation)
        )

    return epoch


def shuffled(
    seed: int, epoch: jax.Array, rows: int, batch_size: int
) -> tuple[jax.Array, jax.Array]:
    """The order of rows in an epoch, a function of (seed, epoch) alone.

    Returns:
      Row numbers and weights, both ``(steps, batch_size)``. The last batch is filled up with
      row 0 at weight zero, so every row counts once and all batches have one shape.
    """
    steps = math.ceil(rows / batch_size)
    key = jax.random.fold_in(jax.random.key(seed), epoch)
    padding = (0, steps * batch_size - rows)
    order = jnp.pad(jax.random.permutation(key, rows), padding)
    weights = jnp.pad(jnp.ones(rows, jnp.float32), padding)
    return order.reshape(steps, batch_size), weights.reshape(steps, batch_size)


def _strong(leaf: jax.Array) -> jax.Array:
    """Weakly typed initial states would not match the state that a compiled epoch returns."""
    return jax.lax.convert_element_type(leaf, jnp.asarray(leaf).dtype)


def _check_finite(epoch: int, result: EpochResult) -> None:
    for step, loss in enumerate(result.step_losses, start=1):
        if not math.isfinite(loss):
            raise RunFailedError(
                f"The loss became {loss} in epoch {epoch}, step {step} of "
                f"{len(result.step_losses)}; no model was written. "
                f"A smaller optimizer.learning_rate or an optimizer.clip_norm usually helps."
            )
    for part, loss in (("training", result.train.loss), ("validation", result.validation.loss)):
        if not math.isfinite(loss):
            raise RunFailedError(
                f"The {part} loss became {loss} after epoch {epoch}; no model was written. "
                f"A smaller optimizer.learning_rate or an optimizer.clip_norm usually helps."
            )


def _record(epoch: int, result: EpochResult, seconds: float) -> EpochRecord:
    return EpochRecord(
        epoch,
        float(result.train.loss),
        float(result.train.accuracy),
        float(result.validation.loss),
        float(result.validation.accuracy),
        seconds,
    )
