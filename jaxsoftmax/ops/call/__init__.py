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
import numpy as np
from jax.extend.core import get_opaque_trace_state

from jaxsoftmax.ops.row import xla

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


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
            return _unfolded(out)  # and with it the cotangents
        return function(*args, **options)

    return call


def _is_array(annotation: str) -> bool:
    return "ArrayLike" in annotation or annotation == "Any"


_ARRAYS = np.ndarray, jax.Array
with jax.ensure_compile_time_eval():
    _OP_BY_OP = get_opaque_trace_state()


class _NotCompiledError(Exception):
    """An argument that `function` must see as it is."""


def _unfolded(values: T) -> T:
    """The same values; with those that are constants of a program XLA does not compute early."""
    if get_opaque_trace_state() == _OP_BY_OP:
        return values
    unfolded: T = jax.tree.map(lambda v: xla.unfolded(v) if isinstance(v, _ARRAYS) else v, values)
    return unfolded


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
