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

P = ParamSpec("P")
R = TypeVar("R")


def one_program(*static: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: `function` compiled, with these arguments static.

    What only shows before an argument becomes an array is left to `function` itself, not compiled,
    which has the sentence for it: integers that JAX would cut to 32 bits, and options that are not.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        names = tuple(inspect.signature(function).parameters)
        compiled = jax.jit(function, static_argnames=static, inline=True)

        @functools.wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> R:
            given: dict[str, Any] = dict(zip(names, args, strict=False))
            if len(args) > len(names) or given.keys() & options.keys():
                return function(*args, **options)  # Python says what is wrong
            given.update(options)
            for name, value in given.items():
                if name in static:
                    if isinstance(value, list):
                        given[name] = value = tuple(value)
                    if not _is_hashable(value):
                        return function(*args, **options)
                elif isinstance(value, (np.ndarray, np.generic, int)):
                    if _is_cut(value):
                        return function(*args, **options)
                    if not isinstance(value, int):  # JAX has no room for 64 bits in a constant
                        given[name] = value.astype(jax.dtypes.canonicalize_dtype(value.dtype))
            out: R = compiled(**given)
            return out

        return call

    return decorate


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _is_cut(value: np.ndarray | np.generic | int) -> bool:
    """Whether JAX would lose the upper bits of these integers without a word."""
    array = np.asarray(value)
    if array.dtype.kind not in "iu" or array.dtype.itemsize < 8 or array.size == 0:
        return array.dtype == object  # a Python int of more than 64 bits
    limits = np.iinfo(jax.dtypes.canonicalize_dtype(array.dtype))
    return bool(array.min() < limits.min or array.max() > limits.max)
