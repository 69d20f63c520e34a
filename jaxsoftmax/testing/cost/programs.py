"""Compiled programs, what they cost by the compiler's own account, and how right they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsoftmax.native import PREFIX

from .modes import Mode, Problem, place, problem


class Cost(NamedTuple):
    """What the compiler says of a program; None where the platform does not tell."""

    compile_seconds: float | None  # lowering and compiling, once
    temp_bytes: int | None  # scratch memory beyond arguments and results
    peak_bytes: int | None
    input_bytes: int | None
    output_bytes: int | None
    residual_bytes: int | None  # kept from the forward to the backward pass, arguments aside
    flops: float | None  # None with row kernels as well: XLA counts -1 for what it calls
    bytes_accessed: float | None  # by all of its kernels: caches may serve a part of it


UNKNOWN = Cost(*[None] * len(Cost._fields))


class Program(NamedTuple):
    """A compiled program with its arguments in place; `read` makes arrays of what it returns."""

    call: Callable[[], Any]
    cost: Cost = UNKNOWN
    read: Callable[[Any], Any] = lambda result: result


def compiled(function: Callable[..., Any], given: Problem, wrt: Sequence[int]) -> Program:
    """`given` compiled ahead of time; `function` is what its residuals are counted of."""
    start = time.perf_counter()
    executable = jax.jit(given.program).lower(*given.args).compile()
    seconds = time.perf_counter() - start
    args = jax.device_put(given.args, executable.input_shardings[0])
    memory = executable.memory_analysis()
    counts = executable.cost_analysis() or {}
    called = f'custom_call_target="{PREFIX}' in (executable.as_text() or "")
    return Program(
        lambda: executable(*args),
        Cost(
            seconds,
            getattr(memory, "temp_size_in_bytes", None),
            getattr(memory, "peak_memory_in_bytes", None),
            getattr(memory, "argument_size_in_bytes", None),
            getattr(memory, "output_size_in_bytes", None),
            _residual_bytes(function, given.args[0], wrt),
            None if called else counts.get("flops"),
            counts.get("bytes accessed"),
        ),
    )


def _residual_bytes(
    function: Callable[..., Any], args: Sequence[Any], wrt: Sequence[int]
) -> int | None:
    def residuals(*args: Any) -> Any:
        moving = [args[i] for i in wrt]

        def of(*moving: Any) -> Any:
            replaced = dict(zip(wrt, moving, strict=True))
            return function(*(replaced.get(i, arg) for i, arg in enumerate(args)))

        return jax.tree.leaves(jax.vjp(of, *moving)[1])

    try:
        jaxpr = jax.make_jaxpr(residuals)(*args).jaxpr
    except (TypeError, NotImplementedError):  # no reverse mode
        return None
    known = {id(variable) for variable in (*jaxpr.invars, *jaxpr.constvars)}
    kept: dict[int, Any] = {id(v): v.aval for v in jaxpr.outvars if id(v) not in known}
    return sum(int(aval.size * aval.dtype.itemsize) for aval in kept.values())


def in_float64(
    function: Callable[..., Any], args: Sequence[Any], wrt: Sequence[int], mode: Mode, seed: int
) -> Any:
    """The result of `mode` in float64, as NumPy arrays."""
    # A float32 constant in the function is widened, also where the caller forbids promotion.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        exact = jax.tree.map(_to_float64, tuple(args))
        given = problem(function, exact, wrt, mode, seed)
        return jax.tree.map(np.asarray, jax.jit(given.program)(*given.args))


def _to_float64(leaf: Any) -> Any:
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    return place(np.asarray(leaf).astype(np.float64), leaf)


def error(got: Any, expected: Any) -> float:
    """The largest |got - expected|, relative to the largest |expected| of the same array.

    Both must be infinite or NaN at the same places, or the error is infinite.
    """
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    return max(_error(np.asarray(a), b) for a, b in pairs)


def _error(got: Any, expected: Any) -> float:
    if got.dtype == jax.dtypes.float0 or got.size == 0:
        return 0.0
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    same = np.array_equal(got[~finite], expected[~finite], equal_nan=True)
    if got.shape != expected.shape or not same or not np.isfinite(got[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    largest = np.abs(expected[finite]).max()
    off = np.abs(got[finite] - expected[finite]).max()
    return float(off / largest) if largest > 0 else float(off)


def tolerance(*trees: Any) -> float:
    """The error that separates a rough result from a wrong one: ε^⅔ of the coarsest float dtype.

    2.4e-5 in float32, 0.04 in bfloat16: far above rounding, far below a wrong term.
    """
    leaves = [leaf for leaf in jax.tree.leaves(trees) if hasattr(leaf, "dtype")]
    floats = [leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    finfo: Any = jnp.finfo
    return max((float(finfo(dtype).eps) ** (2 / 3) for dtype in floats), default=0.0)
