"""What users may say, and the sentences when they say something else.

`one_program` makes a public function one compiled program for each shape of its arguments: a call
outside of `jax.jit` is one dispatch, a call inside leaves no trace of it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsoftmax.ops.row import xla

P = ParamSpec("P")
R = TypeVar("R")


def one_program(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator: `function` compiled; arguments whose annotation names no array are static.

    What only shows before an argument becomes an array is left to `function` itself, not compiled,
    which has the sentence for it: integers that JAX would cut to 32 bits, and options that are not.
    """
    names = tuple(inspect.signature(function).parameters)
    static = {name for name in names if not _is_array(function.__annotations__[name])}
    compiled = jax.jit(function, static_argnames=tuple(static), inline=True)

    def prepared(name: str, value: Any) -> Any:
        return _option(value) if name in static else _array(value)

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        given: dict[str, Any] = dict(zip(names, args, strict=False))
        if len(args) > len(names) or given.keys() & options.keys():
            return function(*args, **options)  # Python says what is wrong
        given.update(options)
        try:
            ready = {name: prepared(name, value) for name, value in given.items()}
            out: R = compiled(**_unfolded(ready))
        except (_NotCompiledError, TypeError, ValueError):
            pass  # `function` says what is wrong, in one sentence and without JAX's frames
        else:
            return out
        return function(*args, **options)

    return call


def _is_array(annotation: str) -> bool:
    return "ArrayLike" in annotation or annotation == "Any"


class _NotCompiledError(Exception):
    """An argument that `function` must see as it is."""


def _unfolded(given: dict[str, Any]) -> dict[str, Any]:
    """Arguments, of which those that are constants beside what is traced stay as they are."""
    if not any(isinstance(value, jax.core.Tracer) for value in given.values()):
        return given
    return {name: _constant(value) for name, value in given.items()}


def _constant(value: Any) -> Any:
    is_array = isinstance(value, (np.ndarray, jax.Array)) and not isinstance(value, jax.core.Tracer)
    return xla.unfolded(jnp.asarray(value)) if is_array and value.size > 1 else value


def _option(value: Any) -> Any:
    """A static argument, which must be hashable."""
    value = tuple(value) if isinstance(value, list) else value
    try:
        hash(value)
    except TypeError:
        raise _NotCompiledError from None
    return value


def _array(value: Any) -> Any:
    """An argument of no more bits than JAX has, which it would cut without a word."""
    if not isinstance(value, (np.ndarray, np.generic, int)):
        return value
    array = np.asarray(value)
    if array.dtype == object:  # a Python integer of more than 64 bits
        raise _NotCompiledError
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if array.dtype == dtype or isinstance(value, bool):
        return value
    if array.dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise _NotCompiledError
    return value if isinstance(value, int) else array.astype(dtype)
