"""The compiled programs of a run: steps and scores, on all rows, on folds of them, and on batches."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

import jaxsoftmax
from jaxsoftmax.training.data import batches
from jaxsoftmax.training.solvers import Params, Problem, Settings, Solver, State
from jaxsoftmax.training.solvers.problem import mean


class Scores(NamedTuple):
    """Mean cross-entropy (nats) and share of right predictions, both scalars."""

    loss: Array
    accuracy: Array


def weighed(rows: Problem, weights: Array, l2: Array) -> Problem:
    """The same rows, with other weights and another penalty."""
    return dataclasses.replace(rows, weights=weights, l2=l2)


@jax.jit
def scores(params: Params, rows: Problem) -> Scores:
    """Loss (without the penalty) and accuracy, over the rows that have a weight."""

    def of(rows: Problem) -> Scores:
        loss, stats = jaxsoftmax.linear_softmax_cross_entropy(
            rows.features,
            params.kernel,
            rows.labels,
            params.bias,
            weights=rows.weights,
            return_stats=True,
        )
        total = jnp.sum(rows.weights)
        right = jnp.sum(jnp.where(stats.prediction == rows.labels, rows.weights, 0))
        return Scores(loss, right / jnp.where(total > 0, total, 1))

    return mean(of, rows)


@functools.partial(jax.jit, static_argnums=0)
def init(solver: Solver, problem: Problem, params: Params, settings: Settings) -> State:
    """The state before the first step."""
    return solver.init(problem, params, settings)


@functools.partial(jax.jit, static_argnums=0)
def step(solver: Solver, problem: Problem, state: State) -> State:
    """One step on all rows."""
    return solver.step(problem, state)


@functools.partial(jax.jit, static_argnums=0)
def fold_init(
    solver: Solver, rows: Problem, folds: Array, l2: Array, params: Params, settings: Settings
) -> State:
    """The states before the first step of problems that are solved side by side."""

    def init(weights: Array, params: Params) -> State:
        return solver.init(weighed(rows, weights, l2), params, settings)

    found: State = _over_folds(init, folds, params)
    return found


@functools.partial(jax.jit, static_argnums=0)
def fold_steps(solver: Solver, rows: Problem, folds: Array, l2: Array, state: State) -> State:
    """One step of each of them."""

    def step(weights: Array, state: State) -> State:
        return solver.step(weighed(rows, weights, l2), state)

    found: State = _over_folds(step, folds, state)
    return found


@jax.jit
def fold_scores(rows: Problem, folds: Array, params: Params) -> tuple[Array, Array, Array, Array]:
    """Train loss and accuracy, then those of the rows that a fold leaves out; means over folds."""

    def both(weights: Array, params: Params) -> tuple[Array, Array, Array, Array]:
        left_out = jnp.where(weights > 0, 0, rows.weights)
        return (
            *scores(params, weighed(rows, weights, jnp.float32(0))),
            *scores(params, weighed(rows, left_out, jnp.float32(0))),
        )

    train, right, loss, accuracy = _over_folds(both, folds, params)
    return train.mean(), right.mean(), loss.mean(), accuracy.mean()


def _over_folds(function: Callable[[Array, Any], Any], folds: Array, tree: Any) -> Any:
    """`vmap`, but for a single fold, which needs no batched products."""
    if len(folds) > 1:
        return jax.vmap(function)(folds, tree)
    one = function(folds[0], jax.tree.map(lambda leaf: leaf[0], tree))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[jnp.newaxis], one)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def batch_steps(
    solver: Solver,
    seed: int,
    sizes: tuple[int, int, int],
    rows: Problem,
    state: State,
    epoch: Array,
    first: Array,
    last: Array,
) -> State:
    """Steps ``first`` to ``last`` of an epoch; their number compiles no other program.

    ``sizes`` are those of a batch, of all rows, and the number of devices that share a batch.
    """
    size, count, shards = sizes
    order = batches.order(seed, epoch, count, math.ceil(count / size) * size)

    def step(number: Array, state: State) -> State:
        chosen, counted = batches.batch(order, number, size, count)
        chosen, counted = (jnp.pad(array, (0, -size % shards)) for array in (chosen, counted))
        weights = rows.weights[chosen] * counted
        part = dataclasses.replace(
            rows, features=rows.features[chosen], labels=rows.labels[chosen], weights=weights
        )
        return solver.step(part, state)

    found: State = jax.lax.fori_loop(first, last, step, state)
    return found
