"""Some problems for many penalties, each solved from the solutions of those before it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from .newton_cg import NewtonCg
from .problem import Params, Problem
from .state import Settings, State, solve

FARTHEST = 2  # times the last step that one starts ahead of the solution before


def solve_folds(
    solver: NewtonCg,
    problem: Problem,
    weights: Array,
    l2: Array,
    params: Params,
    settings: Settings,
) -> State:
    """The paths of K problems that differ little, as those of a cross-validation, side by side.

    Each penalty starts where the solutions of the two before it point to. The problems share what
    conjugate gradients divide by: the Hessian of all of them together, formed once a penalty.

    Args:
      solver: whose program is compiled once for all penalties.
      problem: the rows; neither its weights nor its ``l2`` are used.
      weights: ``(K, N)``.
      l2: ``(L, K, D)``, best from large to small.
      params: where the first penalty starts.
      settings: when to stop, for each penalty.

    Returns:
      The last states with leading axes (L, K), without what the solver carried.
    """
    count = len(weights)
    start: Params = jax.tree.map(lambda leaf: jnp.stack([leaf] * count), params)
    whole = dataclasses.replace(problem, weights=jnp.sum(weights, axis=0))
    sizes = jnp.log(jnp.mean(l2, axis=(1, 2)))
    ahead = jnp.pad((sizes[2:] - sizes[1:-1]) / (sizes[1:-1] - sizes[:-2]), (2, 0))[: len(l2)]
    ahead = jnp.where(jnp.isfinite(ahead), jnp.clip(ahead, 0, FARTHEST), 0)

    def one(carry: tuple[Params, Params], given: tuple[Array, Array]) -> tuple[Any, State]:
        (now, before), (l2, ahead) = carry, given
        start = jax.tree.map(lambda a, b: a + ahead * (a - b), now, before)
        middle = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), start)
        shared = solver.preconditioned(dataclasses.replace(whole, l2=jnp.mean(l2, axis=0)), middle)

        def fold(weights: Array, l2: Array, params: Params) -> State:
            own = dataclasses.replace(problem, weights=weights, l2=l2)
            return solve(shared, own, params, settings)._replace(memory=None)

        states: State = jax.vmap(fold)(weights, l2, start)
        return (states.params, now), states

    states: State = jax.lax.scan(one, (start, start), (l2, ahead))[1]
    return states
