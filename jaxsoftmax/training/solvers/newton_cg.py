"""Truncated Newton: conjugate gradients on the Hessian, as far as the point is worth it.

Each step solves H d = −g until ‖r‖ ≤ η ‖g‖ in the norm of the preconditioner, with η falling as
the square root of the gradient, and goes the whole way along d unless the objective forbids it
(Nocedal & Wright, Numerical Optimization, 2006, chapter 7.1; forcing terms: Eisenstat & Walker,
Choosing the forcing terms in an inexact Newton method, SIAM J. Sci. Comput. 17, 1996).

Adding a vector to all columns of the kernel changes no probability, so H is singular along it (up
to the penalty). All directions are kept orthogonal to that: their columns sum to 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from . import preconditioner, surface
from .problem import Params, Problem, finfo, norm
from .state import Settings, State, Status, status_of
from .surface import Point

LARGEST_FORCING = 0.3
SUFFICIENT_DECREASE = 1e-4
CURVATURE = 0.8  # of the slope at the start, which the slope at the end may have
HALVINGS = 30
PATIENCE = 4  # steps in a row that gain nothing


Tree = TypeVar("Tree")


class Memory(NamedTuple):
    """What is carried from step to step: where the rows are centred, and the point."""

    center: Array
    spread: Array
    first_norm: Array
    idle: Array  # steps in a row that gained nothing but rounding
    point: Point


@dataclasses.dataclass(frozen=True)
class NewtonCg:
    """The solver; its fields are the sizes that a program is compiled for.

    Attributes:
      max_products: of the Hessian in one step.
      held_bytes: rows × classes probabilities are held between products up to this size.
      precondition: what conjugate gradients divide by; made anew for each step when left out.
    """

    max_products: int = 250
    held_bytes: int = 256 * 2**20
    precondition: preconditioner.Solve | None = None

    def init(self, problem: Problem, params: Params, settings: Settings) -> State:
        center, point = self._centred(problem, params)
        size = _size(point)
        spread = preconditioner.spread(problem, center)
        memory = Memory(center, spread, size, jnp.int32(0), point)
        return _state(memory, jnp.int32(0), jnp.int32(0), settings)

    def step(self, problem: Problem, state: State) -> State:
        memory: Memory = state.memory
        center, point = memory.center, memory.point
        solve = self.precondition
        if solve is None:
            solve = preconditioner.build(problem, center, memory.spread, point)
        size = _size(point)
        forcing = jnp.minimum(LARGEST_FORCING, jnp.sqrt(size / memory.first_norm))

        def product(direction: Params) -> Params:
            return surface.product(problem, center, point, direction)

        def evaluate(params: Params) -> Point:
            return self._evaluate(problem, center, params)

        direction, products = _conjugate_gradients(
            product, solve, point.gradient, forcing, self.max_products
        )
        found, new = _line_search(evaluate, point, direction)
        idle = jnp.where(_gained(point, new), 0, memory.idle + 1)
        point = _either(found, new, point)
        after = _state(
            memory._replace(point=point, idle=idle),
            state.iterations + 1,
            state.products + products,
            state.settings,
        )
        stuck = (~found | (idle >= PATIENCE)) & (after.status == Status.RUNNING)
        return after._replace(
            status=jnp.where(stuck, jnp.int32(Status.LINE_SEARCH_FAILED), after.status)
        )

    def preconditioned(self, problem: Problem, params: Params) -> NewtonCg:
        """The solver for problems that have nearly this Hessian, which it does not form again."""
        center, point = self._centred(problem, params)
        spread = preconditioner.spread(problem, center)
        solve = preconditioner.build(problem, center, spread, point)
        return dataclasses.replace(self, precondition=solve)

    def _centred(self, problem: Problem, params: Params) -> tuple[Array, Point]:
        """The mean of the rows, and the point of the same classifier on rows without it."""
        center = surface.weighted_mean(problem)
        if params.bias is None:
            center = jnp.zeros_like(center)
        start = _balanced(surface.shifted(center, params, +1))
        return center, self._evaluate(problem, center, start)

    def _evaluate(self, problem: Problem, center: Array, params: Params) -> Point:
        itemsize = params.kernel.dtype.itemsize
        held = len(problem.labels) * params.kernel.shape[1] * itemsize
        return surface.evaluate(problem, center, params, hold=held <= self.held_bytes)


def _state(memory: Memory, iterations: Array, products: Array, settings: Settings) -> State:
    point = memory.point
    bias = point.gradient.bias
    gradient = point.gradient
    if bias is not None:  # that of the rows as they are
        kernel = gradient.kernel + memory.center[:, jnp.newaxis] * bias[jnp.newaxis, :]
        gradient = gradient._replace(kernel=kernel)
    gradient_norm = norm(gradient)
    return State(
        surface.shifted(memory.center, point.params, -1),
        point.value,
        gradient_norm,
        iterations,
        products,
        status_of(point.value, gradient_norm, iterations, settings),
        settings,
        memory,
    )


class _Cg(NamedTuple):
    x: Params
    residual: Params
    direction: Params
    size: Array  # ⟨r, M⁻¹ r⟩
    products: Array
    positive: Array  # whether the last curvature was


def _conjugate_gradients(
    product: Callable[[Params], Params],
    solve: preconditioner.Solve,
    gradient: Params,
    forcing: Array,
    limit: int,
) -> tuple[Params, Array]:
    """x with H x ≈ −gradient, and the number of products."""
    start = jax.tree.map(jnp.negative, gradient)
    first = _balanced(solve(start))
    goal = forcing**2 * _dot(start, first)

    def unfinished(cg: _Cg) -> Array:
        return (cg.size > goal) & (cg.products < limit) & cg.positive

    def body(cg: _Cg) -> _Cg:
        image = _balanced(product(cg.direction))
        curvature = _dot(cg.direction, image)
        positive = curvature > 0  # false for NaN too
        step = jnp.where(positive, cg.size / curvature, 0)
        x = _add(cg.x, step, cg.direction)
        residual = _add(cg.residual, -step, image)
        scaled = _balanced(solve(residual))
        size = _dot(residual, scaled)
        direction = _add(scaled, size / cg.size, cg.direction)
        return _Cg(x, residual, direction, size, cg.products + 1, positive)

    nothing = jax.tree.map(jnp.zeros_like, start)
    cg = jax.lax.while_loop(
        unfinished,
        body,
        _Cg(nothing, start, first, _dot(start, first), jnp.int32(0), jnp.bool(True)),
    )
    went = _dot(cg.x, cg.x) > 0
    return _either(went, cg.x, first), cg.products


def _line_search(
    evaluate: Callable[[Params], Point], point: Point, direction: Params
) -> tuple[Array, Point]:
    """Halves the step until it lowers the objective enough; whether it did, and the new point.

    Where two values differ by less than their rounding, slopes decide instead: Hager & Zhang, A new
    conjugate gradient method with guaranteed descent, SIAM J. Optim. 16, 2005.
    """
    slope = _dot(point.gradient, direction)

    def accepted(step: Array, new: Point) -> Array:
        lower = new.value <= point.value + SUFFICIENT_DECREASE * step * slope
        level = new.value <= point.value + _rounding(point)
        flat = jnp.abs(_dot(new.gradient, direction)) <= -CURVATURE * slope
        return (lower | (level & flat)) & (slope < 0)

    def attempt(carry: tuple[Array, Array, Point]) -> tuple[Array, Array, Point]:
        count, step, _ = carry
        return count + 1, step / 2, evaluate(_add(point.params, step, direction))

    def unfinished(carry: tuple[Array, Array, Point]) -> Array:
        count, step, new = carry
        return (count == 0) | (~accepted(2 * step, new) & (count <= HALVINGS) & (slope < 0))

    # One copy of the evaluation in the program: the first attempt is made in the loop as well.
    start = jnp.int32(0), jnp.ones_like(slope), point
    _, step, new = jax.lax.while_loop(unfinished, attempt, start)
    return accepted(2 * step, new), new


def _gained(old: Point, new: Point) -> Array:
    """Whether a step did more than rounding does."""
    lower = old.value - new.value > _rounding(old)
    return lower | (2 * _size(new) < _size(old))


def _size(point: Point) -> Array:
    return jnp.sqrt(_dot(point.gradient, point.gradient))


def _rounding(point: Point) -> Array:
    return jnp.abs(point.value) * float(4 * finfo(point.value.dtype).eps)


def _balanced(params: Params) -> Params:
    """Columns that sum to 0."""
    balanced: Params = jax.tree.map(
        lambda leaf: leaf - jnp.mean(leaf, axis=-1, keepdims=True), params
    )
    return balanced


def _dot(a: Params, b: Params) -> Array:
    return jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, a, b))


def _either(which: Array, a: Tree, b: Tree) -> Tree:
    chosen: Tree = jax.tree.map(lambda x, y: jnp.where(which, x, y), a, b)
    return chosen


def _add(a: Params, step: Array, b: Params) -> Params:
    total: Params = jax.tree.map(lambda x, y: x + step * y, a, b)
    return total
