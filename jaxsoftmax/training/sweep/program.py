"""The compiled programs: all runs of one file of features.

On batches the runs of a seed are side by side: a product with B kernels ``(D, C)`` is one with a
kernel ``(D, B C)``, and each row is read once for all of them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxsoftmax.training.data import batches
from jaxsoftmax.training.runs import programs
from jaxsoftmax.training.solvers import Params, Problem, Settings, Solver, State, first_order, solve
from jaxsoftmax.training.solvers.optimizers import FirstOrder, Fista, Lbfgs, NewtonCg
from jaxsoftmax.training.solvers.schedules import Horizon

HELD = 2**29  # numbers that the runs of one call may hold beside the rows


class Rows(NamedTuple):
    """``features (N, D)`` and ``labels (N,)``, which all runs share."""

    features: Array
    labels: Array


class Settled(NamedTuple):
    """What differs between B runs: ``weights (B, N)`` of the rows that train, and the penalty."""

    weights: Array
    l2: Array


class Order(NamedTuple):
    """What differs between S seeds: the seed, and the numbers ``(S, n)`` of the training rows."""

    seeds: Array
    rows: Array


class Rates(NamedTuple):
    """What differs between M runs of a seed; ``which`` of the K weightings of classes is theirs."""

    l2: Array
    rate: Array
    which: Array


def at_once(runs: int, rows: int, width: int, classes: int) -> int:
    """How many runs are solved side by side.

    On a CPU one after the other: a single run keeps it busy, and none has to wait for those that
    take more steps. Elsewhere as many as memory holds.
    """
    if jax.default_backend() == "cpu":
        return 1
    return max(1, min(runs, HELD // max(1, rows * max(width, 4 * classes))))


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def converge(
    choice: NewtonCg | Lbfgs | Fista,
    classes: int,
    bias: bool,
    side_by_side: int,
    rows: Problem,
    settled: Settled,
) -> State:
    """B runs of a solver that sees all rows, to its tolerance."""
    solver = choice.solver(Horizon(1, choice.max_iterations))
    settings = Settings(jnp.float32(choice.tolerance), jnp.int32(choice.max_iterations))
    start = _zeros(rows, classes, bias)

    def run(settled: Settled) -> State:
        problem = dataclasses.replace(rows, weights=settled.weights, l2=settled.l2)
        return solve(solver, problem, start, settings)._replace(memory=None)

    size = side_by_side if side_by_side > 1 else None
    found: State = jax.lax.map(run, settled, batch_size=size)
    return found


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def descend(
    choice: FirstOrder,
    classes: int,
    bias: bool,
    rows: Problem,
    weights: Array,
    order: Order,
    rates: Rates,
) -> State:
    """S × M runs of an optimiser on batches; runs of one seed see the same batches.

    Args:
      choice: The optimiser.
      classes: How many.
      bias: Whether the models have one.
      rows: All rows.
      weights: ``(S, K, N)`` of the rows, in K weightings of the classes.
      order: Of the seeds.
      rates: Of the runs of each seed.

    Returns:
      The last states, with leading axes (S, M).
    """
    count = order.rows.shape[1]
    size = choice.batch_size or count
    steps = math.ceil(count / size)
    horizon = Horizon(steps, steps * choice.epochs)
    # Every rule is proportional to its rate, so that the rate need not be known when it is built.
    unit = choice.model_copy(update={"learning_rate": 1.0}).build(horizon)
    settings = Settings(jnp.float32(0), jnp.int32(horizon.steps))
    start = _zeros(rows, classes, bias)

    def solver(rate: Array) -> Solver:
        rule = optax.chain(unit, optax.scale(rate))
        return first_order.FirstOrder(optax.with_extra_args_support(rule))

    def of_seed(seed: Array, numbers: Array, weights: Array) -> State:
        def part(order: Array, step: Array) -> tuple[Problem, Array]:
            chosen, counted = batches.batch(order, step, size, count)
            at = numbers[chosen]
            taken = dataclasses.replace(
                rows, features=rows.features[at], labels=rows.labels[at], weights=counted
            )
            return taken, weights[:, at] * counted[jnp.newaxis, :]

        def of_run(part: Problem, weights: Array, l2: Array, which: Array) -> Problem:
            return dataclasses.replace(part, weights=weights[which], l2=l2)

        def init(l2: Array, rate: Array, which: Array) -> State:
            first = of_run(*part(jnp.arange(steps * size), jnp.int32(0)), l2, which)
            return solver(rate).init(first, start, settings)

        def epoch(number: Array, states: State) -> State:
            order = batches.order(seed, number, count, steps * size)

            def step(number: Array, states: State) -> State:
                taken = part(order, number)

                def advance(state: State, l2: Array, rate: Array, which: Array) -> State:
                    return solver(rate).step(of_run(*taken, l2, which), state)

                after: State = jax.vmap(advance)(states, *rates)
                return after

            done: State = jax.lax.fori_loop(0, steps, step, states)
            return done

        last: State = jax.lax.fori_loop(0, choice.epochs, epoch, jax.vmap(init)(*rates))
        return last._replace(memory=None)

    found: State = jax.vmap(of_seed)(*order, weights)
    return found


@jax.jit
def scores(params: Params, rows: Problem, weights: Array) -> programs.Scores:
    """Those of B models on rows weighted ``(B, N)``."""

    def one(run: tuple[Params, Array]) -> programs.Scores:
        judged: programs.Scores = programs.scores(run[0], dataclasses.replace(rows, weights=run[1]))
        return judged

    found: programs.Scores = jax.lax.map(one, (params, weights))
    return found


def _zeros(rows: Problem, classes: int, bias: bool) -> Params:
    kernel = jnp.zeros((rows.features.shape[1], classes), jnp.float32)
    return Params(kernel, jnp.zeros(classes, jnp.float32) if bias else None)
