"""The ways a function is differentiated, each as one program on arrays.

Notation   y = f(x) for the arguments x in `wrt`; ẋ tangents, ȳ cotangents, both given, the same for
           every function that is compared.

forward          y
gradient         Jᵀ ȳ alone
value_and_grad   y and Jᵀ ȳ; ȳ = 1 where y is a scalar, which makes it jax.value_and_grad
jvp              y and J ẋ
hvp              the derivative of Jᵀ ȳ in the direction ẋ: forward over reverse
vmapped          value_and_grad of every row: of f on x[i], mapped over the leading axis
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Mode = Literal["forward", "gradient", "value_and_grad", "jvp", "hvp", "vmapped"]
MODES: tuple[Mode, ...] = ("forward", "gradient", "value_and_grad", "jvp", "hvp", "vmapped")


class Problem(NamedTuple):
    """A function's program in one mode, and what it is called with."""

    program: Callable[..., Any]
    args: tuple[Any, ...]  # (the function's arguments, tangents or cotangents)


def problem(
    function: Callable[..., Any], args: Sequence[Any], wrt: Sequence[int], mode: Mode, seed: int
) -> Problem:
    """`function` in `mode` at `args`."""
    if mode == "forward":
        return Problem(lambda args, _: function(*args), (tuple(args), ()))
    if mode == "jvp":
        return Problem(_jvp(function, wrt), (tuple(args), _directions(args, wrt, seed)))

    rows = mode == "vmapped"
    out = jax.eval_shape(jax.vmap(function) if rows else function, *args)
    shapes = [_drop_row(leaf) if rows else leaf for leaf in jax.tree.leaves(out)]
    scalars = [leaf.shape == () for leaf in shapes]
    bars = tuple(
        () if scalar or not _is_float(leaf) else _eighths(leaf, seed + 1 + i)
        for i, (leaf, scalar) in enumerate(zip(jax.tree.leaves(out), scalars, strict=True))
    )
    if mode == "hvp":
        dots = _directions(args, wrt, seed)
        return Problem(_hvp(function, wrt), (tuple(args), (bars, dots)))
    pulled = _value_and_grad(function, wrt)
    if mode == "gradient":
        return Problem(lambda args, bars: pulled(args, bars)[1], (tuple(args), bars))
    return Problem(jax.vmap(pulled) if rows else pulled, (tuple(args), bars))


def _value_and_grad(function: Callable[..., Any], wrt: Sequence[int]) -> Callable[..., Any]:
    def value_and_grad(args: Sequence[Any], bars: Sequence[Any]) -> Any:
        out, pull = jax.vjp(_in(function, args, wrt), *(args[i] for i in wrt))
        leaves, tree = jax.tree.flatten(out)
        full = [_cotangent(leaf, bar) for leaf, bar in zip(leaves, bars, strict=True)]
        return out, pull(jax.tree.unflatten(tree, full))

    return value_and_grad


def _jvp(function: Callable[..., Any], wrt: Sequence[int]) -> Callable[..., Any]:
    def jvp(args: Sequence[Any], dots: Sequence[Any]) -> Any:
        return jax.jvp(_in(function, args, wrt), [args[i] for i in wrt], list(dots))

    return jvp


def _hvp(function: Callable[..., Any], wrt: Sequence[int]) -> Callable[..., Any]:
    pulled = _value_and_grad(function, wrt)

    def hvp(args: Sequence[Any], given: Sequence[Any]) -> Any:
        bars, dots = given

        def gradient(*moving: Any) -> Any:
            return pulled(_with(args, wrt, moving), bars)[1]

        return jax.jvp(gradient, [args[i] for i in wrt], list(dots))[1]

    return hvp


def _in(function: Callable[..., Any], args: Sequence[Any], wrt: Sequence[int]) -> Any:
    return lambda *moving: function(*_with(args, wrt, moving))


def _with(args: Sequence[Any], wrt: Sequence[int], moving: Sequence[Any]) -> list[Any]:
    replaced = dict(zip(wrt, moving, strict=True))
    return [replaced.get(i, arg) for i, arg in enumerate(args)]


def _cotangent(out: Any, bar: Any) -> Any:
    if not _is_float(out):
        return np.zeros(out.shape, jax.dtypes.float0)
    return jnp.ones_like(out) if isinstance(bar, tuple) else bar.astype(out.dtype)


def _directions(args: Sequence[Any], wrt: Sequence[int], seed: int) -> tuple[Any, ...]:
    counter = iter(range(seed + 1000, seed + 100_000))
    return tuple(jax.tree.map(lambda leaf: _eighths(leaf, next(counter)), args[i]) for i in wrt)


def _eighths(like: Any, seed: int) -> jax.Array:
    """Random eighths from -1 to 1: every float dtype holds them, so all programs get the same."""
    values = np.random.default_rng(seed).integers(-8, 9, like.shape) / 8
    return place(values.astype(like.dtype), like)


def place(value: Any, like: Any) -> jax.Array:
    """`value` where `like` is."""
    placed: jax.Array = jax.device_put(value, getattr(like, "sharding", None))
    return placed


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _drop_row(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
