"""L1 and elastic net: accelerated proximal gradient steps, which set coefficients to exactly 0.

    minimise f(W, b) + Σ_d μ_d ‖W_d‖₁:   x⁺ = soft(y − g / s, μ / s),   y⁺ = x⁺ + β (x⁺ − x)

The step sizes 1/s are those of the features (their variance) times one that a line search keeps
as long as the quadratic with them lies above f. Source: Beck & Teboulle, A fast iterative
shrinkage-thresholding algorithm, SIAM J. Imaging Sci. 2, 2009; momentum starts anew where it points
uphill: O'Donoghue & Candès, Adaptive restart for accelerated gradient schemes, 2015.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from . import preconditioner, surface
from .problem import Params, Problem, finfo, norm
from .state import Settings, State, Status, status_of

DOUBLINGS = 40
GROWTH = 0.95  # of the curvature, between steps: longer ones are tried again


class Memory(NamedTuple):
    """Where rows are centred, the curvature of each feature, the point ahead, and the momentum."""

    center: Array
    spread: Array
    point: Params
    ahead: Params
    momentum: Array
    curvature: Array


Search = tuple[Array, Array, Params, Array, Array]  # doublings, then what an attempt gives


@dataclasses.dataclass(frozen=True)
class Proximal:
    """The solver for problems with an L1 penalty; ``gradient_norm`` is that of its proximal map."""

    def init(self, problem: Problem, params: Params, settings: Settings) -> State:
        center = surface.weighted_mean(problem)
        if params.bias is None:
            center = jnp.zeros_like(center)
        spread = preconditioner.spread(problem, center)
        varies = spread > preconditioner.rounding(center)
        # ½ bounds the curvature of the loss in the logits (Böhning & Lindsay, 1988).
        spread = 0.5 * jnp.where(varies, spread, 1) + jnp.asarray(problem.l2, spread.dtype)
        point = surface.shifted(center, params, +1)
        one = jnp.ones((), spread.dtype)
        memory = Memory(center, spread, point, point, one, one)
        first = _smooth(problem, center, point)
        value = first.value + _l1(problem, point)
        size = norm(_residual(problem, memory, point, first.gradient)[1])
        return _state(memory, value, size, jnp.int32(0), settings)

    def step(self, problem: Problem, state: State) -> State:
        memory: Memory = state.memory
        center, ahead = memory.center, memory.ahead
        here = _smooth(problem, center, ahead)

        def attempt(curvature: Array) -> tuple[Array, Params, Array, Array]:
            trial = memory._replace(curvature=curvature)
            point, residual = _residual(problem, trial, ahead, here.gradient)
            move = jax.tree.map(jnp.subtract, point, ahead)
            above = here.value + _dot(here.gradient, move) - 0.5 * _dot(residual, move)
            value = _smooth(problem, center, point).value
            slack = 4 * finfo(value.dtype).eps * jnp.abs(value)
            return curvature, point, value, value <= above + slack

        def double(carry: Search) -> Search:
            count, curvature, *_ = carry
            return count + 1, *attempt(2 * curvature)

        _, curvature, point, value, enough = jax.lax.while_loop(
            lambda carry: ~carry[4] & (carry[0] < DOUBLINGS),
            double,
            (jnp.int32(0), *attempt(GROWTH * memory.curvature)),
        )
        uphill = _dot(
            jax.tree.map(jnp.subtract, ahead, point),
            jax.tree.map(jnp.subtract, point, memory.point),
        )
        momentum = jnp.where(uphill > 0, 1, memory.momentum)
        after = (1 + jnp.sqrt(1 + 4 * jnp.square(momentum))) / 2
        beta = (momentum - 1) / after
        further = jax.tree.map(lambda new, old: new + beta * (new - old), point, memory.point)
        trial = memory._replace(curvature=curvature)
        size = norm(_residual(problem, trial, ahead, here.gradient)[1])
        new = _state(
            Memory(center, memory.spread, point, further, after, curvature),
            value + _l1(problem, point),
            size,
            state.iterations + 1,
            state.settings,
        )
        stuck = ~enough & (new.status == Status.RUNNING)
        new = new._replace(
            status=jnp.where(stuck, jnp.int32(Status.LINE_SEARCH_FAILED), new.status)
        )
        keep = enough & (new.status != Status.DIVERGED)
        return new._replace(
            params=jax.tree.map(lambda a, b: jnp.where(keep, a, b), new.params, state.params)
        )


def _smooth(problem: Problem, center: Array, params: Params) -> surface.Point:
    return surface.evaluate(problem, center, params, hold=True)


def _l1(problem: Problem, params: Params) -> Array:
    return jnp.sum(_strength(problem, params.kernel) * jnp.abs(params.kernel))


def _strength(problem: Problem, kernel: Array) -> Array:
    l1 = jnp.asarray(problem.l1, kernel.dtype)
    return jnp.broadcast_to(l1, kernel.shape[:1])[:, jnp.newaxis]


def _residual(
    problem: Problem, memory: Memory, at: Params, gradient: Params
) -> tuple[Params, Params]:
    """The proximal step from a point, and that step times the curvature: 0 at the optimum."""
    steepness = memory.curvature * memory.spread[:, jnp.newaxis]
    target = at.kernel - gradient.kernel / steepness
    threshold = _strength(problem, at.kernel) / steepness
    kernel = jnp.sign(target) * jnp.maximum(jnp.abs(target) - threshold, 0)
    residual = steepness * (at.kernel - kernel)
    if at.bias is None or gradient.bias is None:
        return Params(kernel, None), Params(residual, None)
    bias = at.bias - gradient.bias / memory.curvature
    return Params(kernel, bias), Params(residual, memory.curvature * (at.bias - bias))


def _state(
    memory: Memory, value: Array, size: Array, iterations: Array, settings: Settings
) -> State:
    return State(
        surface.shifted(memory.center, memory.point, -1),
        value,
        size,
        iterations,
        jnp.int32(0),
        status_of(value, size, iterations, settings),
        settings,
        memory,
    )


def _dot(a: Params, b: Params) -> Array:
    return jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, a, b))
