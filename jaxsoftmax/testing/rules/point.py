"""A function at one point, with random directions, and what rounding does there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .compile import jit
from .flat import Flat
from .report import Check, Status

ROUNDINGS = 64.0  # that a rule may make, each of the size of what it computes with
_COORDINATES = 64  # of more elements than this, as many are sampled; a random line crosses all
_UNSUPPORTED = (
    "can't apply forward-mode",
    "Reverse-mode differentiation does not work",
    "do not support JVP",
    "Linearization failed",
    "not implemented",
)

finfo: Any = jnp.finfo  # which has no types of its own

# A function of (f, x, ẋ, ȳ).
Quantity = Callable[[Callable[..., Any], Any, Any, Any], Any]
# From the place of an element to its name.
Namer = Callable[[tuple[int, ...]], str]


def value(f: Any, x: Any, dot: Any, bar: Any) -> Any:
    """f(x)."""
    del dot, bar
    return f(x)


def jvp(f: Any, x: Any, dot: Any, bar: Any) -> Any:
    """J ẋ."""
    del bar
    return jax.jvp(f, (x,), (dot,))[1]


def vjp(f: Any, x: Any, dot: Any, bar: Any) -> Any:
    """Jᵀ ȳ."""
    del dot
    return jax.vjp(f, x)[1](bar)[0]


class Point:
    """`f` at x, in float64, with a random ẋ and ȳ.

    Attributes:
      f: the function.
      x: the floating arguments, (n,).
      dot: ẋ, (n,).
      bar: ȳ, (m,), 0 where f is not finite.
      coordinates: those of x that are looked at one by one, (k − 1,).
      directions: their unit vectors, and ẋ, (k, n).
      measure: the program for value, jvp and vjp, as far as JAX has them for this kind of rule.
      spreads: what one rounding does to each of them.
    """

    def __init__(self, f: Flat, seed: int) -> None:
        self.f, self.x = f, f.x
        rng = np.random.default_rng(seed)
        n = f.x.size
        self.coordinates = np.sort(rng.permutation(n)[:_COORDINATES])
        self.dot = rng.normal(size=n)
        self.directions = np.vstack([*(np.arange(n) == i for i in self.coordinates), self.dot])
        self.y = np.asarray(f(f.x))
        self.bar = np.where(np.isfinite(self.y), rng.normal(size=f.size), 0.0)
        self._signs = rng.choice([-1.0, 1.0], size=(3, n))
        self._compiled: dict[Quantity, Callable[..., Any]] = {}
        self.measure = self.program({"value": value, "jvp": jvp, "vjp": vjp})
        self.spreads = self.spread(self.measure)
        self.here = self.run(self.measure)

    def program(self, quantities: dict[str, Quantity]) -> Quantity:
        """One function for several quantities, without those that JAX does not have for f."""
        able = {mode: q for mode, q in quantities.items() if self.has(q)}

        def all_of_them(f: Callable[..., Any], x: Any, dot: Any, bar: Any) -> dict[str, Any]:
            return {mode: quantity(f, x, dot, bar) for mode, quantity in able.items()}

        return all_of_them

    def has(self, quantity: Quantity) -> bool:
        """Whether JAX can do this with this kind of rule. A mistake in the rule itself raises."""
        try:
            jit(functools.partial(quantity, self.f)).lower(self.x, self.dot, self.bar)
        except (TypeError, ValueError, NotImplementedError) as error:
            if any(words in str(error) for words in _UNSUPPORTED):
                return False
            raise
        return True

    def compiled(self, program: Quantity) -> Callable[..., Any]:
        """A program as a function of (x, ẋ, ȳ)."""
        if program not in self._compiled:
            self._compiled[program] = jit(functools.partial(program, self.f))
        return self._compiled[program]

    def run(self, program: Quantity, *points: np.ndarray) -> Any:
        """A program here; or, with other points, a list of its results there."""
        run = self.compiled(program)
        results = [jax.tree.map(np.asarray, run(x, self.dot, self.bar)) for x in points or [self.x]]
        return results if points else results[0]

    def spread(self, program: Quantity) -> dict[str, float]:
        """What one rounding does to each quantity, in units of eps.

        Its size (here, half way to 0 and at 0: a gradient such as p − 1 may cancel here), and what
        a relative change of the arguments does to it.
        """
        step = 2.0**-26
        moved = [self.x * (1 + step * signs) for signs in self._signs]
        here, half, zero, *near = self.run(
            program, self.x, self.x / 2, np.zeros_like(self.x), *moved
        )
        with np.errstate(invalid="ignore"):
            return {
                mode: max(map(largest, (here[mode], half[mode], zero[mode])))
                + max(largest(there[mode] - here[mode]) for there in near) / step
                for mode in here
            }

    def direction(self, place: int) -> str:
        """The name of a direction."""
        if place == len(self.coordinates):
            return "a random line"
        return self.f.argument(int(self.coordinates[place]))

    def agree(
        self, title: str, got: Any, expected: Any, mode: str, dtype: str = "float64"
    ) -> Check:
        """Two ways to the same quantity: the same up to rounding."""
        name = self.f.argument if mode == "vjp" else self.f.result
        tolerance = ROUNDINGS * eps(dtype) * self.spreads[mode]
        return compare(
            title, got, expected, tolerance, lambda place: f"{mode} at {name(place[-1])}"
        )


def compare(
    title: str, got: np.ndarray, expected: np.ndarray, tolerance: Any, name: Namer
) -> Check:
    """The worst element of `got`, where there is something finite to expect."""
    known = np.isfinite(expected)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.abs(got - expected) / tolerance
    error = np.where(got == expected, 0.0, np.nan_to_num(error, nan=np.inf))
    error = np.where(known, error, 0.0)
    if not error.size:
        return Check(title, "ok")
    place = tuple(int(i) for i in np.unravel_index(np.argmax(error), error.shape))
    worst = float(error[place])
    status: Status = "ok" if worst <= 1 else "wrong"
    return Check(title, status, worst, name(place), float(expected[place]), float(got[place]))


def eps(dtype: str) -> float:
    """The relative spacing of a floating dtype."""
    return float(finfo(dtype).eps)


def largest(x: np.ndarray) -> float:
    """The largest finite size."""
    return float(np.max(np.abs(x), where=np.isfinite(x), initial=0.0))
