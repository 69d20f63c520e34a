"""A function with `custom_rules` is a function: closed over, made again, sent away, called freely.

What is right is JAX's own derivative of the primal.
"""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxsoftmax import custom_rules

Function = Callable[..., Any]

# ------------------------------------------------------------------------------------------------
# Rules that close over tracers, as those of jax.custom_jvp may
# ------------------------------------------------------------------------------------------------


def times_square(a: Any) -> Any:
    """x -> a x², where all rules close over a."""
    f = custom_rules(lambda x: a * x * x)
    f.defrules(
        lambda x: (f(x), x), lambda x, dot: 2 * a * x * dot, lambda x, bar: (2 * a * x * bar,)
    )
    return f


def in_reverse(a: Any) -> Any:
    return times_square(a).custom_vjp


def in_its_transpose(a: Any) -> Any:
    """The same, where `vjp` closes over a, and `jvp` has it from the residuals."""
    f = custom_rules(lambda x: a * x * x)
    f.defrules(
        lambda x: (f(x), (a, x)),
        lambda saved, dot: 2 * saved[0] * saved[1] * dot,
        lambda saved, bar: (2 * a * saved[1] * bar,),
    )
    return f


def textbook(a: Any) -> Any:
    return lambda x: a * x * x


XS = jnp.arange(1.0, 4.0)
AROUND: dict[str, Callable[[Any], Any]] = {
    "jit": lambda m: jax.jit(lambda a: jax.grad(m(a))(3.0))(2.0),
    "jit of the value": lambda m: jax.jit(lambda a: m(a)(3.0))(2.0),
    "jit, orders mixed": lambda m: jax.jit(lambda a: jax.grad(jax.grad(m(a)))(3.0))(2.0),
    "jit, vmap within": lambda m: jax.jit(lambda a: jax.vmap(jax.grad(m(a)))(XS))(2.0),
    "vmap": lambda m: jax.vmap(lambda a: jax.grad(m(a))(3.0))(XS),
    "vmap of both": lambda m: jax.vmap(lambda a, x: jax.grad(m(a))(x))(XS, XS + 1),
    "jit of vmap of jit": lambda m: jax.jit(jax.vmap(jax.jit(lambda a: jax.grad(m(a))(3.0))))(XS),
    "scan": lambda m: jax.lax.scan(lambda c, a: (c + jax.grad(m(a))(c), a), 1.0, XS)[0],
    "cond": lambda m: jax.jit(lambda a: jax.lax.cond(a > 0, jax.grad(m(a)), lambda x: x, 3.0))(2.0),
}
# The map is differentiated, batched or transposed when the trace of a is over.
AROUND_BOTH_MODES: dict[str, Callable[[Any], Any]] = {
    "jit of jvp": lambda m: jax.jit(lambda a: jax.jvp(m(a), (3.0,), (1.0,))[1])(2.0),
    "jit of the Hessian": lambda m: jax.jit(lambda a: jax.hessian(m(a))(3.0))(2.0),
    "vmap of jit": lambda m: jax.vmap(jax.jit(lambda a: jax.jvp(m(a), (3.0,), (1.0,))[1]))(XS),
    "scan of jvp": lambda m: jax.lax.scan(
        lambda c, a: (c + jax.jvp(m(a), (c,), (1.0,))[1], a), 1.0, XS
    )[0],
    "grad of jit": lambda m: jax.grad(jax.jit(lambda a: jax.grad(m(a))(3.0)))(2.0),
    "grad of jit of jvp": lambda m: jax.grad(jax.jit(lambda a: jax.jvp(m(a), (3.0,), (1.0,))[1]))(
        2.0
    ),
    "grad of checkpoint": lambda m: jax.grad(jax.checkpoint(lambda a: jax.grad(m(a))(3.0)))(2.0),
    "grad of scan": lambda m: jax.grad(
        lambda b: jax.lax.scan(lambda c, a: (c + jax.grad(m(a * b))(c), a), 1.0, XS)[0]
    )(2.0),
}


@pytest.mark.parametrize("made", [times_square, in_its_transpose, in_reverse])
@pytest.mark.parametrize("form", AROUND)
def test_rules_may_close_over_tracers(form: str, made: Function) -> None:
    np.testing.assert_allclose(AROUND[form](made), AROUND[form](textbook), rtol=1e-6)


@pytest.mark.parametrize("made", [times_square, in_its_transpose])
@pytest.mark.parametrize("form", AROUND_BOTH_MODES)
def test_rules_may_close_over_tracers_that_are_gone(form: str, made: Function) -> None:
    form_of = AROUND_BOTH_MODES[form]
    np.testing.assert_allclose(form_of(made), form_of(textbook), rtol=1e-6)


# ------------------------------------------------------------------------------------------------
# Options
# ------------------------------------------------------------------------------------------------


@custom_rules
def telling(x: Any, *, mode: Any = None) -> Any:
    """x times 1, 2 or 3, by what its option is; its derivatives are 10 times as much."""
    return _by_option(mode) * x


def _by_option(mode: Any) -> float:
    if isinstance(mode, float):
        return 1.0 if np.signbit(mode) else 2.0
    return 3.0 if mode is True else 4.0 if mode == 1 else 5.0


telling.defrules(
    fwd=lambda x, *, mode: (telling(x, mode=mode), ()),
    jvp=lambda _, x_dot, *, mode: 10 * _by_option(mode) * x_dot,
    vjp=lambda _, bar, *, mode: (10 * _by_option(mode) * bar,),
)


@pytest.mark.parametrize(
    "pair", [(True, 1), (1, True), (1.0, 1), (2, 2.0), (0.0, -0.0), (-0.0, 0.0)]
)
@pytest.mark.parametrize("f", [telling, telling.custom_vjp])
def test_options_that_are_equal_are_told_apart(f: Function, pair: tuple[Any, Any]) -> None:
    for mode in pair:
        right = _by_option(mode)
        call = partial(f, mode=mode)
        assert call(1.0) == right
        assert jax.jit(call)(1.0) == right
        assert jax.grad(call)(1.0) == 10 * right
        assert jax.lax.scan(lambda c, x, call=call: (c, jax.grad(call)(x)), 0.0, XS)[1][0] == (
            10 * right
        )
        if f is telling:
            assert jax.jvp(call, (1.0,), (1.0,))[1] == 10 * right


@pytest.mark.parametrize("f", [telling, telling.custom_vjp])
def test_defaults_of_the_primal_hold_for_the_rules(f: Function) -> None:
    assert f(1.0) == 5.0
    assert jax.grad(f)(1.0) == 50.0
    if f is telling:
        assert jax.jvp(f, (1.0,), (1.0,)) == (5.0, 50.0)
        assert jax.hessian(f)(1.0) == 0.0


def test_a_rule_need_not_take_an_option_that_is_left_out() -> None:
    f = custom_rules(partial(lambda x, *, n=3, unit: unit * x**n, unit=2.0))
    f.defrules(
        lambda x, n=1: (f(x), n * x ** (n - 1)),
        lambda slope, dot: 2 * slope * dot,
        lambda slope, bar: (2 * slope * bar,),
    )
    assert jax.grad(f)(2.0) == 24.0
    assert jax.jvp(f, (2.0,), (1.0,)) == (16.0, 24.0)


def test_arrays_have_names_and_defaults() -> None:
    """As for jax.custom_jvp, what is left out is an argument like the others."""

    @custom_rules
    def affine(x: Any, scale: Any, shift: Any = 0.5) -> Any:
        return scale * x + shift

    affine.defrules(
        lambda x, scale, shift: (affine(x, scale, shift), (x, scale)),
        lambda saved, x_dot, scale_dot, shift_dot: (
            saved[1] * x_dot + saved[0] * scale_dot + shift_dot
        ),
        lambda saved, bar: (saved[1] * bar, saved[0] * bar, bar),
    )
    for f in (affine, affine.custom_vjp):
        assert f(scale=3.0, x=2.0) == 6.5
        assert jax.grad(lambda s, f=f: f(2.0, scale=s))(3.0) == 2.0
        assert jax.grad(lambda s, f=f: f(shift=s, scale=3.0, x=2.0))(1.0) == 1.0
    assert jax.jvp(lambda s: affine(2.0, scale=s), (3.0,), (1.0,)) == (6.5, 2.0)


# ------------------------------------------------------------------------------------------------
# Life and travel
# ------------------------------------------------------------------------------------------------


def test_a_function_made_again_and_again_is_freed() -> None:
    def once(i: int) -> weakref.ref[Any]:
        table = jnp.full(2**16, float(i))
        f = custom_rules(lambda x: jnp.sum(table) * x)
        f.defrules(
            lambda x: (f(x), ()),
            lambda _, dot: jnp.sum(table) * dot,
            lambda _, bar: (jnp.sum(table) * bar,),
        )
        assert jax.grad(f)(1.0) == i * 2.0**16
        assert jax.grad(f.custom_vjp)(1.0) == i * 2.0**16
        assert jax.jit(jax.hessian(f))(1.0) == 0
        assert jax.vmap(jax.jacfwd(f))(XS)[0] == i * 2.0**16
        return weakref.ref(table)

    kept = [once(i) for i in range(10)]
    gc.collect()
    assert [ref() for ref in kept] == [None] * 10


def local_function() -> Any:
    def triple(x: Any) -> Any:
        return 3 * x

    f = custom_rules(triple)
    f.defrules(lambda x: (f(x), ()), lambda _, dot: 3 * dot, lambda _, bar: (3 * bar,))
    return f


@pytest.mark.parametrize("sent", [copy.copy, copy.deepcopy])
def test_copies(sent: Function) -> None:
    assert jax.grad(sent(telling))(1.0) == 50.0
    assert jax.grad(sent(local_function()))(1.0) == 3.0


def test_it_is_pickled_as_functions_are() -> None:
    assert pickle.loads(pickle.dumps(telling)) is telling  # noqa: S301
    with pytest.raises((pickle.PicklingError, AttributeError), match="local"):
        pickle.dumps(local_function())


def test_cloudpickle_takes_it_by_value() -> None:
    """To a process that does not know it: a script's functions, and those within others."""
    script = (
        "import sys, cloudpickle, jax; from jaxsoftmax import custom_rules\n"
        "@custom_rules\n"
        "def double(x): return 2 * x\n"
        "double.defrules(lambda x: (double(x), ()), lambda _, d: 2 * d, lambda _, b: (2 * b,))\n"
        "sys.stdout.buffer.write(cloudpickle.dumps(double))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert jax.grad(pickle.loads(done.stdout))(1.0) == 2.0  # noqa: S301
    there = pickle.loads(cloudpickle.dumps(local_function()))  # noqa: S301
    assert jax.jvp(there, (1.0,), (1.0,)) == (3.0, 3.0)


def test_it_is_exported_with_sizes_that_are_symbols() -> None:
    @custom_rules
    def ordered(x: Any) -> Any:
        y = jnp.sin(x)
        return y, jnp.argsort(y, -1)  # integers, whose tangents have a size that is a symbol too

    ordered.defrules(
        lambda x: (ordered(x), x),
        lambda x, dot: (jnp.cos(x) * dot, None),
        lambda x, bar: (jnp.cos(x) * bar[0],),
    )

    def all_of_it(x: Any) -> Any:
        value, back = jax.vjp(lambda x: ordered(x)[0], x)
        return value, back(x)[0], jax.jvp(lambda x: back(x)[0] * ordered(x)[0], (x,), (x,))[1]

    n, c = export.symbolic_shape("n, c")
    exported = export.export(jax.jit(all_of_it))(jax.ShapeDtypeStruct((n, c), np.float32))
    x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    sin, cos = np.sin(x), np.cos(x)
    right = sin, cos * x, x * cos * sin + x * cos * (cos * x)
    for ours, textbook in zip(exported.call(x), right, strict=True):
        np.testing.assert_allclose(ours, textbook, rtol=1e-5, atol=1e-7)
