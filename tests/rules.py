"""What is promised of every op, in one call: `assert_rules`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsoftmax.testing import RulesReport, check_rules
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.trees import assert_same


def assert_rules(
    f: Callable[..., Any],
    *args: Any,
    oracle: Callable[..., Any],
    jacobian: Callable[..., Any] | None = None,
    dtypes: tuple[str, ...] = (),
    vmap: bool = True,
    order: int = 2,
    **options: Any,
) -> None:
    """`f` and its rules hold, in every mode, and in orders 1 and 2.

    - value: the oracle in NumPy float64, from float64 and from float32 arguments;
    - JVP and VJP: finite differences in float64, `jax.jvp` of the oracle, the dense formula of the
      rule card, ⟨ȳ, J ẋ⟩ = ⟨Jᵀȳ, ẋ⟩;
    - order 2 in all four orders of modes, unless `order` is 1: finite differences of a first
      derivative;
    - vmap over each argument and over all, unless `vmap` is False; with jit and without;
    - value, JVP and VJP in each of `dtypes`, against float64.
    """
    _assert_values(f, args, oracle, options)
    how = {"jacobian": jacobian, "dtypes": dtypes, "vmap": vmap, "order": order}
    report = hold(f, *args, oracle=oracle, **how, **options)
    assert {check.status for check in report.checks} == {"ok"}, report


def hold(
    f: Callable[..., Any], *args: Any, oracle: Callable[..., Any], order: int = 2, **how: Any
) -> RulesReport:
    """The report on the rules of `f`; the harness that wrong rules must not survive."""
    return check_rules(f, *args, reference=_plain(oracle), order=order, **how)


def _plain(oracle: Callable[..., Any]) -> Callable[..., Any]:
    """The textbook in JAX, written as textbooks are: scalars and vectors broadcast."""

    def reference(*args: Any, **options: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return oracle(*args, xp=jnp, **options)

    return reference


def assert_third_order(
    f: Callable[..., Any], *args: Any, oracle: Callable[..., Any], **options: Any
) -> None:
    """Order 3 in two mixes of modes, against those of the oracle."""
    moving = [np.issubdtype(arg.dtype, np.floating) for arg in args]
    point = tuple(arg for arg, moves in zip(args, moving, strict=True) if moves)
    dots = tuple(np.cos(17 * x + 1) for x in point)

    def third(f: Callable[..., Any]) -> Any:
        def scalar(floats: Any) -> Any:
            given = iter(floats)
            y = f(*(next(given) if m else a for a, m in zip(args, moving, strict=True)), **options)
            return jnp.sum(jnp.sin(jnp.where(jnp.isfinite(y), y, 0.0)))

        def along(f: Callable[..., Any]) -> Callable[..., Any]:
            return lambda x: jax.jvp(f, (x,), (dots,))[1]

        hessian_product = along(jax.grad(scalar))
        curvature = along(along(scalar))
        return quick_jit(lambda x: (along(hessian_product)(x), jax.grad(curvature)(x)))(point)

    with jax.enable_x64(True):
        assert_same(third(f), third(_plain(oracle)), rtol=1e-10)


def _assert_values(
    f: Callable[..., Any], args: tuple[Any, ...], oracle: Callable[..., Any], options: Any
) -> None:
    with jax.enable_x64(True):
        got = f(*args, **options)
        np.testing.assert_allclose(got, oracle(*args, **options), rtol=1e-13, atol=1e-14)
        assert got.dtype == jnp.float64

    rounded = [_floats(arg, jnp.float32) for arg in args]
    got = jax.jit(partial(f, **options))(*rounded)
    exact = np.asarray(oracle(*(np.asarray(arg) for arg in rounded), **options))
    size = np.max(np.abs(exact), where=np.isfinite(exact), initial=0.0)
    np.testing.assert_allclose(got, exact, rtol=4e-7, atol=4e-7 * size)
    assert got.dtype == jnp.float32
    assert got.shape == exact.shape
    assert not got.weak_type


def _floats(x: Any, dtype: Any) -> Any:
    x = np.asarray(x)
    return jnp.asarray(x, dtype if np.issubdtype(x.dtype, np.floating) else None)


def assert_dtypes(f: Callable[..., Any], *args: Any, keeps: bool) -> None:
    """The dtype of the result, and of every derivative, for each floating dtype.

    `keeps` says whether narrow results stay narrow (softmax) or are float32 (losses).
    """
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        given = [_floats(arg, dtype) for arg in args]
        moving = [i for i, arg in enumerate(given) if jnp.issubdtype(arg.dtype, jnp.floating)]
        y = jax.eval_shape(f, *given)
        assert y.dtype == (dtype if keeps else jnp.float32)
        total = jax.eval_shape(jax.grad(lambda *a: jnp.sum(f(*a)), argnums=moving), *given)
        assert [bar.dtype for bar in total] == [dtype] * len(moving)
        assert not any(bar.weak_type for bar in (y, *total))
