"""What every solver reports, and the form that all solvers have.

A solver is two pure functions. The loop around them belongs to the caller: a run looks at each
state and writes checkpoints, an estimator compiles the loop whole, a sweep vmaps it.

    state = solver.init(problem, params, settings)
    while not finished(state):
        state = solver.step(problem, state)
"""

from __future__ import annotations

import enum
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from .problem import Params, Problem


class Status(enum.IntEnum):
    """Why a solver stopped, or that it has not."""

    RUNNING = 0
    CONVERGED = 1  # ‖gradient‖∞ ≤ tolerance
    ITERATION_LIMIT = 2
    LINE_SEARCH_FAILED = 3  # no step lowers the objective in this precision
    DIVERGED = 4  # objective or gradient is not finite; params are the last finite ones
    STOPPED_EARLY = 5  # by who runs the solver

    def sentence(self) -> str:
        """For people: what happened and what to do."""
        return _SENTENCES[self]


_SENTENCES = {
    Status.RUNNING: "still running",
    Status.CONVERGED: "converged",
    Status.ITERATION_LIMIT: (
        "stopped at the limit of iterations, not converged; "
        "allow more of them, or a larger tolerance"
    ),
    Status.LINE_SEARCH_FAILED: (
        "stopped where no step lowers the objective any more, above the tolerance; "
        "a larger tolerance, a larger l2 or float64 helps"
    ),
    Status.DIVERGED: (
        "diverged: the objective is not finite; "
        "look for NaN in the features, or take a smaller learning rate"
    ),
    Status.STOPPED_EARLY: "stopped early: the validation loss fell no more; its best epoch is kept",
}


class Settings(NamedTuple):
    """When to stop. Numbers, not options: changing them compiles nothing.

    Attributes:
      tolerance: the solver has converged where ‖gradient‖∞ is not above this.
      max_iterations: of `Solver.step`.
    """

    tolerance: ArrayLike = 1e-6
    max_iterations: ArrayLike = 100


class State(NamedTuple):
    """A point on the way, as arrays and numbers only.

    Attributes:
      params: the best parameters so far; they can be used at any time.
      objective: f(params), a scalar; that of the batch for solvers that work on batches.
      gradient_norm: ‖gradient of f at params‖∞, a scalar.
      iterations: steps taken, an integer.
      products: passes over the rows for products with the Hessian, an integer.
      status: a `Status`, an integer.
      settings: when to stop.
      memory: what else the solver carries, any pytree.
    """

    params: Params
    objective: Array
    gradient_norm: Array
    iterations: Array
    products: Array
    status: Array
    settings: Settings
    memory: Any

    @property
    def reason(self) -> Status:
        """The status of a state that is no tracer, as what it is."""
        return Status(int(self.status))


class Solver(Protocol):
    """A frozen, hashable value; its fields are what a program is compiled for."""

    def init(self, problem: Problem, params: Params, settings: Settings) -> State:
        """The state before the first step, at ``params``: zeros, or a warm start."""

    def step(self, problem: Problem, state: State) -> State:
        """One outer iteration; a finished state comes back as it is."""


def finished(state: State) -> Array:
    """Whether the solver has stopped, for whatever reason; a boolean scalar."""
    return state.status != Status.RUNNING


def status_of(
    objective: Array, gradient_norm: Array, iterations: Array, settings: Settings
) -> Array:
    """The status by the rules that all solvers share."""
    finite = jnp.isfinite(objective) & jnp.isfinite(gradient_norm)
    return jnp.select(
        [
            ~finite,
            gradient_norm <= jnp.asarray(settings.tolerance, gradient_norm.dtype),
            iterations >= settings.max_iterations,
        ],
        [jnp.int32(s) for s in (Status.DIVERGED, Status.CONVERGED, Status.ITERATION_LIMIT)],
        jnp.int32(Status.RUNNING),
    )


def solve(solver: Solver, problem: Problem, params: Params, settings: Settings) -> State:
    """The whole loop as one traceable function, for those who need nothing on the way."""
    return jax.lax.while_loop(
        lambda state: ~finished(state),
        lambda state: solver.step(problem, state),
        solver.init(problem, params, settings),
    )
