"""Derivatives from values alone: central differences on a ladder of steps, with their own error."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .compile import jit

# Steps 1/2, 1/8, 1/32, ... times max(1, |x|): wide enough for arguments of 1e6 and of 1e-6.
_STEPS = 0.5 * 0.25 ** np.arange(16)
_ORDERS = 4  # Richardson extrapolation removes the h², h⁴ and h⁶ terms


def derivatives(
    f: Callable[[jax.Array], jax.Array], x: np.ndarray, directions: np.ndarray, noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """Directional derivatives of `f` at `x`, and a bound on the error of each.

    Every level of the ladder is extrapolated to step 0 (Richardson); of all entries the one whose
    neighbours agree with it best is taken, and their disagreement is its error (Ridders, 1982).

    Args:
      f: maps (n,) to (m,), in float64.
      x: the point, (n,).
      directions: (k, n).
      noise: what one rounding does to the values of `f`.

    Returns:
      The derivatives, (k, m), NaN where `f` is not finite; and the error of each row, (k,), NaN
      where nothing settles.
    """
    reach = np.where(np.isfinite(x), np.abs(x), 0.0)
    size = np.array([max(1.0, np.min(reach[d != 0])) for d in directions])
    steps = size[:, None] * _STEPS

    def along(line: tuple[Any, Any]) -> Any:
        direction, hs = line
        return jax.lax.map(lambda h: f(jnp.asarray(x) + h * direction), hs)

    signed = np.concatenate([steps, -steps, 0 * steps[:, :1]], axis=1)
    values = np.asarray(jit(lambda lines: jax.lax.map(along, lines))((directions, signed)))
    results = []
    for value, hs in zip(values, steps, strict=True):
        forward, backward, here = np.split(value, [len(hs), -1])
        results.append(_extrapolate(forward, backward, here, hs, noise))
    return np.stack([r[0] for r in results]), np.array([r[1] for r in results])


def _extrapolate(
    forward: np.ndarray, backward: np.ndarray, here: np.ndarray, steps: np.ndarray, noise: float
) -> tuple[np.ndarray, float]:
    """The best entry of the table, (m,), and its error in the largest norm."""
    with np.errstate(invalid="ignore", over="ignore"):
        plain = (forward - backward) / (2 * steps[:, None])
        usable = np.isfinite(plain[-1])
        forward, backward, here, plain = (a[:, usable] for a in (forward, backward, here, plain))
        rounding = noise / steps
        unsteady = 4 * _largest(plain[-3:-1] - plain[-1]).max() + 8 * rounding[-1]
        best, error, merit = np.zeros(plain.shape[1]), np.nan, np.inf
        column = plain
        for order in range(1, _ORDERS):
            better = column[1:] + (column[1:] - column[:-1]) / (16.0**order - 1)
            neighbours = np.stack([column[:-2], column[1:-1], better[1:]])
            spread = _largest(np.abs(better[:-1] - neighbours).max(axis=0, initial=0.0))
            # A coarse step can settle on a slope that a fine one does not see.
            spread = np.maximum(spread, _largest(better[:-1] - plain[-1]) - unsteady)
            found = spread + 4 * rounding[order:-1]
            relative = found / np.maximum(_largest(better[:-1]), 1e-300)
            level = np.nanargmin(relative)
            if relative[level] < merit:
                best, error, merit = better[level], found[level], relative[level]
            column = better
        jump = _largest((forward + backward - 2 * here) / steps[:, None])[-2:]
        if jump[1] > max(jump[0] / 2, 1e-3 * _largest(best[None])[0], 100 * rounding[-1]):
            error = max(error, jump[1])  # a kink: the slopes on the two sides differ
    result = np.full(usable.shape, np.nan)
    result[usable] = best
    return result, float(error)


def _largest(rows: np.ndarray) -> np.ndarray:
    """Largest size in each row; infinite where a row is not finite, 0 where it is empty."""
    sizes: np.ndarray = np.where(np.isfinite(rows), np.abs(rows), np.inf)
    return np.asarray(np.max(sizes, axis=1, initial=0.0))
