"""Rows about transformations and precision: the same numbers another way."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .compile import jit
from .point import Point, finfo
from .report import Check


def without_jit(point: Point) -> Check:
    """Operation by operation, as against one compiled program."""
    at = [jnp.asarray(v) for v in (point.x, point.dot, point.bar)]
    got = point.measure(point.f, *at)
    return _agree(point, "without jit", got, point.here)


def vmaps(point: Point) -> list[Check]:
    """Each argument mapped over alone, then all of them, against one by one."""
    used = sorted(set(point.f.owners))
    f, dots, bar = point.f, point.f.leaves(point.dot), jnp.asarray(point.bar)

    def measure(leaves: list[Any]) -> dict[str, Any]:
        """The quantities as functions of all leaves of the arguments."""
        floats, fixed = f.split(leaves)
        results = point.measure(functools.partial(f.at, fixed=fixed), floats, dots, bar)
        return {
            mode: jnp.concatenate(jax.tree.leaves(jax.tree.map(jnp.ravel, quantity)))
            for mode, quantity in results.items()
        }

    rows = [_vmap_row(point, f"vmap of args[{i}]", {i}, measure) for i in used]
    if len(used) > 1:
        rows.append(_vmap_row(point, "vmap of all args", set(used), measure))
    return rows


def _vmap_row(point: Point, title: str, mapped: set[int], measure: Callable[..., Any]) -> Check:
    """Two points that differ in the mapped arguments; the derivatives are in all arguments."""
    f = point.f
    axes = [0 if owner in mapped else None for owner in f.owners]
    here = f.merged(f.leaves(point.x), f.fixed)
    there = [x if axis is None else _changed(x) for x, axis in zip(here, axes, strict=True)]
    both = [
        x if axis is None else jnp.stack([x, y])
        for x, y, axis in zip(here, there, axes, strict=True)
    ]
    try:
        got = jit(jax.vmap(measure, in_axes=(axes,)))(both)
    except NotImplementedError as error:
        return Check(title, "not supported", note=str(error).split("\n")[0])
    alone = jit(measure)
    expected = jax.tree.map(lambda *rows: jnp.stack(rows), alone(here), alone(there))
    return _agree(point, title, got, expected)


def _changed(x: jax.Array) -> jax.Array:
    """Another valid argument: floats a little larger, integers in another order."""
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x * jnp.asarray(1.125, x.dtype)
    return jnp.roll(jnp.asarray(x), 1)


def low_precision(point: Point, dtype: str) -> Check:
    """All of it in a narrow dtype, against float64 at the same, rounded arguments."""
    x, dot, bar = (v.astype(jnp.dtype(dtype)) for v in (point.x, point.dot, point.bar))
    expected = point.compiled(point.measure)(*(v.astype(np.float64) for v in (x, dot, bar)))
    with jax.enable_x64(False):
        run = jax.jit(functools.partial(point.measure, point.f))
        got = run(x, dot, bar.astype(np.float32))  # results are compared in float32
    limit = float(finfo(dtype).max)
    representable = {
        mode: np.where(np.abs(right) < limit, right, np.nan) for mode, right in expected.items()
    }
    return _agree(point, dtype, got, representable, dtype)


def _agree(point: Point, title: str, got: Any, expected: Any, dtype: str = "float64") -> Check:
    """The worst of value, jvp and vjp."""
    checks = [
        point.agree(title, np.asarray(got[mode], np.float64), np.asarray(right), mode, dtype)
        for mode, right in expected.items()
    ]
    return max(checks, key=lambda check: check.error)
