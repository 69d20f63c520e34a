"""A linear map that carries its transpose, as one primitive of JAX.

`linear(fun, transpose, residuals, arguments)` is M t, linear in the arguments t, where M depends on
the residuals r. Each transformation has one thing to say about it:

    evaluate         run the map
    lower            inline the map
    batch            vmap the map and its transpose
    transpose        swap the two
    differentiate    (∂M/∂r ṙ) t + M ṫ: the map's own code in its residuals, itself in its tangents
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir

from .varying import varying, varying_axes

# On flat leaves: (residuals, linear arguments) -> results.
LinearMap = Callable[[Sequence[Any], Sequence[Any]], list[Any]]
Avals = tuple[Any, ...]

_linear_p = jax.extend.core.Primitive("linear")
_linear_p.multiple_results = True


def linear(
    fun: LinearMap, transpose: LinearMap, residuals: Sequence[Any], arguments: Sequence[Any]
) -> list[Any]:
    """fun(residuals, arguments), whose transpose in `arguments` is `transpose`."""
    axes = varying_axes([*residuals, *arguments])
    # Inside shard_map an argument may be the same on devices where the residuals differ. Its
    # cotangent is then a sum over these devices, which is the transpose of this cast.
    arguments = varying(list(arguments), axes)
    maps = _without_tracers(_Traced.of(fun), _Traced.of(transpose), residuals, arguments)
    fun, transpose, residuals = maps
    results: list[Any] = _linear_p.bind(
        *residuals, *arguments, fun=fun, transpose=transpose, split=len(residuals)
    )
    return results


class _Traced:
    """A linear map, traced once for each type of its operands, where it is first met."""

    def __init__(self, fun: LinearMap) -> None:
        self.fun = fun
        self._programs: dict[tuple[Avals, Avals], Any] = {}

    @classmethod
    def of(cls, fun: LinearMap) -> _Traced:
        return fun if isinstance(fun, cls) else cls(fun)

    @classmethod
    def of_program(cls, program: Any) -> _Traced:
        run = jax.extend.core.jaxpr_as_fun(program)
        return cls(lambda residuals, arguments: run(*residuals, *arguments))

    def __call__(self, residuals: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        program = self.program(_avals(residuals), _avals(arguments))
        results: list[Any] = jax.extend.core.jaxpr_as_fun(program)(*residuals, *arguments)
        return results

    def program(self, residuals: Avals, arguments: Avals) -> Any:
        """The map as a closed jaxpr."""
        if (residuals, arguments) not in self._programs:
            program = jax.make_jaxpr(self.fun)(list(residuals), list(arguments))
            self._programs[residuals, arguments] = program
        return self._programs[residuals, arguments]


def _without_tracers(
    fun: _Traced, transpose: _Traced, residuals: Sequence[Any], arguments: Sequence[Any]
) -> tuple[_Traced, _Traced, Sequence[Any]]:
    """The same maps, with the tracers that they close over among the residuals.

    A map may be run, batched or transposed when the trace is over that it was made in.
    """
    types, own = _avals(residuals), len(residuals)
    program = fun.program(types, _avals(arguments))
    if not any(map(_is_tracer, program.consts)):
        return fun, transpose, residuals
    back = transpose.program(types, tuple(program.out_avals))
    captured = {id(c): c for each in (program, back) for c in each.consts if _is_tracer(c)}
    place = {key: own + i for i, key in enumerate(captured)}

    def opened(program: Any) -> _Traced:
        def run(residuals: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
            consts = [residuals[place[id(c)]] if _is_tracer(c) else c for c in program.consts]
            operands = *residuals[:own], *arguments
            results: list[Any] = jax.core.eval_jaxpr(program.jaxpr, consts, *operands)
            return results

        more = _avals(list(captured.values()))
        return _Traced.of_program(jax.make_jaxpr(run)([*types, *more], program.in_avals[own:]))

    return opened(program), opened(back), [*residuals, *captured.values()]


def _is_tracer(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


def _avals(values: Sequence[Any]) -> Avals:
    return tuple(map(jax.typeof, values))


def _run(*operands: Any, fun: _Traced, transpose: _Traced, split: int) -> list[Any]:
    """Outside of any trace the map is run as it is written."""
    del transpose
    return fun.fun(list(operands[:split]), list(operands[split:]))


def _evaluate(*operands: Any, fun: _Traced, transpose: _Traced, split: int) -> list[Any]:
    del transpose
    return fun(list(operands[:split]), list(operands[split:]))


def _abstract(*avals: Any, fun: _Traced, transpose: _Traced, split: int) -> list[Any]:
    del transpose
    return list(fun.program(avals[:split], avals[split:]).out_avals)


def _batch(axis: Any, operands: Any, dims: Any, *, fun: Any, transpose: Any, split: int) -> Any:
    residuals, arguments = operands[:split], operands[split:]
    if all(dim is None for dim in dims):
        results = linear(fun, transpose, residuals, arguments)
        return results, [None] * len(results)
    arguments = [
        batching.bdim_at_front(x, dim, axis.size)
        for x, dim in zip(arguments, dims[split:], strict=True)
    ]
    vmap = functools.partial(
        jax.vmap,
        in_axes=(list(dims[:split]), 0),
        axis_size=axis.size,
        axis_name=axis.name if isinstance(axis.name, str) else None,
        spmd_axis_name=axis.spmd_name,
    )
    results = linear(vmap(fun), vmap(transpose), residuals, arguments)
    return results, [0] * len(results)


def _differentiate(
    operands: Any, tangents: Any, *, fun: LinearMap, transpose: LinearMap, split: int
) -> Any:
    residuals, arguments = operands[:split], operands[split:]
    results = linear(fun, transpose, residuals, arguments)
    terms = []

    # M ṫ term
    if any(_known(t) for t in tangents[split:]):
        dots = [ad.instantiate_zeros(t) for t in tangents[split:]]
        terms.append(linear(fun, transpose, residuals, dots))

    # (∂M/∂r ṙ) t term
    moving = [i for i, t in enumerate(tangents[:split]) if _known(t)]
    if moving:
        of_residuals = lambda *values: fun(values, arguments)  # noqa: E731
        terms.append(tangent(of_residuals, residuals, tangents, moving))

    return results, [
        functools.reduce(ad.add_jaxvals, column) for column in zip(*terms, strict=True)
    ]


def _known(dot: Any) -> bool:
    return type(dot) is not ad.Zero and jnp.result_type(dot) != jax.dtypes.float0


def tangent(
    fun: Callable[..., Any], values: Sequence[Any], dots: Sequence[Any], moving: Sequence[int]
) -> Any:
    """That of fun(*values), of which only those with these numbers move."""

    def of_moving(*moved: Any) -> Any:
        at = dict(zip(moving, moved, strict=True))
        return fun(*(at.get(i, value) for i, value in enumerate(values)))

    return jax.jvp(of_moving, [values[i] for i in moving], [dots[i] for i in moving])[1]


def _transpose(
    bars: Any, *operands: Any, fun: LinearMap, transpose: LinearMap, split: int
) -> list[Any]:
    residuals, arguments = operands[:split], operands[split:]
    bars = [ad.instantiate_zeros(bar) for bar in bars]
    results = linear(transpose, fun, residuals, bars)
    # A cotangent varies along the axes that its argument does, a 0 too.
    axes = [x.aval.manual_axis_type.varying for x in arguments]
    return [None] * split + list(map(varying, results, axes))


_linear_p.def_impl(_run)
_linear_p.def_abstract_eval(_abstract)
ad.primitive_jvps[_linear_p] = _differentiate
ad.primitive_transposes[_linear_p] = _transpose
batching.fancy_primitive_batchers[_linear_p] = _batch
mlir.register_lowering(_linear_p, mlir.lower_fun(_evaluate, multiple_results=True))
