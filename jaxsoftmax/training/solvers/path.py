"""One problem for many penalties, each solved from the solution of the one before."""

from __future__ import annotations

import dataclasses

import jax
from jax import Array

from .problem import Params, Problem
from .state import Settings, Solver, State, solve


def solve_path(
    solver: Solver, problem: Problem, l2: Array, params: Params, settings: Settings
) -> State:
    """Solves along a path of L penalties, best from large to small; one compiled program.

    Args:
      solver: any that converges.
      problem: its own ``l2`` is not used.
      l2: ``(L,)``, or ``(L, D)`` with one for each feature.
      params: where the first penalty starts.
      settings: when to stop, for each penalty.

    Returns:
      The last states with a leading axis of L, without what the solver carried.
    """

    def one(params: Params, l2: Array) -> tuple[Params, State]:
        state = solve(solver, dataclasses.replace(problem, l2=l2), params, settings)
        return state.params, state._replace(memory=None)

    states: State = jax.lax.scan(one, params, l2)[1]
    return states
