"""Rows about derivatives: order 1 against values, order 2 against order 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .compile import jit
from .finite_differences import derivatives
from .flat import Flat
from .point import ROUNDINGS, Point, Quantity, compare, eps, jvp, largest
from .report import Check

_KINK = "the differences do not settle: a kink or a jump?"


class _Truth(NamedTuple):
    """What J does to each direction, (k, m), and how sure that is, (k, 1)."""

    name: str
    columns: np.ndarray
    error: np.ndarray | float = 0.0


def first_order(
    point: Point, reference: Callable[..., Any] | None, jacobian: Callable[..., Any] | None
) -> list[Check]:
    """Both modes against every truth there is, and against each other."""
    columns, error = derivatives(
        point.f, point.x, point.directions, eps("float64") * point.spreads["value"]
    )
    truths, rows = [_Truth("finite differences", columns, error[:, None])], []
    if reference is not None:
        plain = point.f.like(reference)
        rows.append(point.agree("value = reference", point.y, np.asarray(plain(point.x)), "value"))
        truths.append(_Truth("jax.jvp of reference", _pushed(point, plain)))
    if jacobian is not None:
        truths.append(_Truth("jacobian", _dense(point, jacobian)))
    for truth in truths:
        rows += [_jvp_row(point, truth), _vjp_row(point, truth)]
    return [*rows, _adjointness(point)]


def _pushed(point: Point, f: Flat) -> np.ndarray:
    """J times every direction, (k, m)."""
    push = jit(lambda x, dots: jax.lax.map(lambda dot: jvp(f, x, dot, None), dots))
    return np.asarray(push(point.x, point.directions))


def _dense(point: Point, jacobian: Callable[..., Any]) -> np.ndarray:
    """A formula of J in the first argument, times every direction that lies in it, (k, m)."""
    formula = np.asarray(point.f.formula(jacobian)).reshape(point.f.size, -1)
    inside, outside = np.split(point.directions, [formula.shape[1]], axis=1)
    return np.where(np.any(outside, axis=1, keepdims=True), np.nan, inside @ formula.T)


def _jvp_row(point: Point, truth: _Truth) -> Check:
    title = f"jvp = {truth.name}"
    if "jvp" not in point.here:
        return Check(title, "not supported")
    if _unsure(truth.columns, truth.error, point):
        return Check(title, "undecided", note=_KINK)
    tolerance = 8 * truth.error + ROUNDINGS * eps("float64") * point.spreads["jvp"]
    return compare(
        title,
        _pushed(point, point.f),
        truth.columns,
        tolerance + np.zeros_like(truth.columns),
        lambda place: f"∂{point.f.result(place[1])}/∂{point.direction(place[0])}",
    )


def _vjp_row(point: Point, truth: _Truth) -> Check:
    title = f"vjp = {truth.name}"
    if "vjp" not in point.here:
        return Check(title, "not supported")
    known = np.any(np.isfinite(truth.columns), axis=1)
    expected = np.where(known, np.nan_to_num(truth.columns) @ point.bar, np.nan)
    error = np.sum(np.abs(point.bar)) * np.ravel(truth.error)
    if _unsure(expected, error, point):
        return Check(title, "undecided", note=_KINK)
    lengths = np.sum(np.abs(point.directions), axis=1)
    tolerance = 8 * error + ROUNDINGS * eps("float64") * point.spreads["vjp"] * lengths
    got = point.directions @ point.here["vjp"]
    return compare(title, got, expected, tolerance, lambda place: point.direction(place[0]))


def _unsure(truth: np.ndarray, error: np.ndarray | float, point: Point) -> bool:
    """Whether differences say nothing: more error than derivative, and more than rounding."""
    doubt = np.where(np.isfinite(truth), np.nan_to_num(error, nan=np.inf), 0.0)
    return bool(np.any(doubt > 1e-4 * largest(truth) + 1e-10 * point.spreads["value"]))


def _adjointness(point: Point) -> Check:
    title = "adjointness of jvp and vjp"
    if not {"jvp", "vjp"} <= set(point.here):
        return Check(title, "not supported")
    forward = np.where(point.bar == 0, 0.0, point.here["jvp"])
    size = np.sum(np.abs(point.bar)) * point.spreads["jvp"]
    size += np.sum(np.abs(point.dot)) * point.spreads["vjp"]
    got, expected = point.here["vjp"] @ point.dot, point.bar @ forward
    tolerance = ROUNDINGS * eps("float64") * size
    return compare(title, got[None], expected[None], tolerance, lambda _: "⟨Jᵀȳ, ẋ⟩")


def second_order(point: Point, sound: str) -> list[Check]:
    """∂⟨∇s, ẋ⟩ in the four orders of modes, against differences of ∇s by the `sound` mode.

    s is a scalar of f that curves f's arguments and results, so that the tangent and the cotangent
    of f move too and every term of the second derivative shows.
    """
    reach = 1.0 + np.abs(np.where(point.bar == 0, 0.0, point.y))

    def scalar(x: Any) -> Any:
        y = point.f(x + (x - point.x) ** 2 / 2)
        y = jnp.where(point.bar == 0, 0.0, y)
        return jnp.sum(point.bar * (y + y**2 / (2 * reach)))

    def slope(x: Any) -> Any:
        return jax.jvp(scalar, (x,), (point.dot,))[1]

    def forward(f: Callable[..., Any], x: Any) -> Any:
        """⟨∇f, every direction⟩, one jvp each."""
        return jax.lax.map(lambda dot: jax.jvp(f, (x,), (dot,))[1], point.directions)

    def reverse(f: Callable[..., Any], x: Any) -> Any:
        """⟨∇f, every direction⟩ by one gradient."""
        return jnp.asarray(point.directions) @ jax.grad(f)(x)

    def gradient(x: Any) -> Any:
        return reverse(scalar, x)

    orders: dict[str, Quantity] = {
        "forward over forward": lambda f, x, *_: forward(slope, x),
        "forward over reverse": lambda f, x, *_: jax.jvp(gradient, (x,), (point.dot,))[1],
        "reverse over forward": lambda f, x, *_: reverse(slope, x),
        "reverse over reverse": lambda f, x, *_: reverse(
            lambda x: jax.grad(scalar)(x) @ point.dot, x
        ),
    }
    first = reverse if sound == "vjp" else forward
    columns, error = derivatives(
        lambda x: first(scalar, x), point.x, point.dot[None], eps("float64") * point.spreads[sound]
    )
    program = point.program(orders)
    results, spreads = point.run(program), point.spread(program)
    lengths = np.sum(np.abs(point.directions), axis=1)

    def row(title: str) -> Check:
        if title not in results:
            return Check(title, "not supported")
        if _unsure(columns[0], error, point):
            return Check(title, "undecided", note=_KINK)
        tolerance = 8 * error[0] + ROUNDINGS * eps("float64") * spreads[title] * lengths
        return compare(
            title, results[title], columns[0], tolerance, lambda place: point.direction(place[0])
        )

    return [row(title) for title in orders]
