"""What is right beyond a single row: shapes, dtypes, reductions, transformations, refusals."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxsoftmax import (
    cross_entropy,
    linear_softmax_cross_entropy,
    log_softmax,
    logsumexp,
    softmax,
    softmax_cross_entropy,
)
from jaxsoftmax import softmax_cross_entropy_with_integer_labels as integer_ce

from .tables import behaviour

X = np.array([[1.0, 0.0, 2.0, -1.0], [0.5, 3.0, -2.0, 0.0], [9.0, 1.0, 1.0, 1.0]], np.float32)
Y = np.array([2, 0, 1], np.int32)
F = np.array([[1.0, -2.0], [0.5, 0.25], [3.0, 1.0]], np.float32)
W = np.array([[0.5, -1.0, 2.0, 0.0], [1.0, 1.0, -0.5, 0.25]], np.float32)
NAN, INF = np.float32("nan"), np.float32("inf")


def refuses(error: type[Exception], words: str, call: Callable[..., Any], *args: Any) -> None:
    with pytest.raises(error, match=words):
        call(*args)


def same(got: Any, want: Any) -> None:
    """Equal to the last bit, NaN included."""
    jax.tree.map(np.testing.assert_array_equal, got, want)


def close(got: Any, want: Any, rtol: float = 3e-6) -> None:
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


def linear(**options: Any) -> Callable[..., Any]:
    """Loss and gradients of the linear loss."""
    loss = functools.partial(linear_softmax_cross_entropy, **options)
    return jax.value_and_grad(loss, argnums=(0, 1))


# --- shapes and axes ---


@behaviour(11, "one class: softmax 1, log_softmax and CE exactly +0, every derivative exactly 0")
def one_class() -> None:
    x = np.array([[5.0], [-3e38]], np.float32)
    same(softmax(x), np.ones_like(x))
    for out in (
        log_softmax(x),
        integer_ce(x, np.zeros(2, np.int32)),
        softmax_cross_entropy(x, x * 0 + 1),
    ):
        assert not np.any(np.asarray(out))
        assert not np.signbit(np.asarray(out)).any()
    loss = lambda x: integer_ce(x, jnp.zeros((), jnp.int32))  # noqa: E731
    same(jax.hessian(loss)(x[0]), np.zeros((1, 1), np.float32))
    same(jax.jacfwd(softmax)(x[0]), np.zeros((1, 1), np.float32))


@behaviour(12, "no class: softmax, log_softmax empty, logsumexp -∞, losses ValueError")
def no_class() -> None:
    x = np.zeros((3, 0), np.float32)
    assert softmax(x).shape == log_softmax(x).shape == (3, 0)
    same(logsumexp(x, -1), np.full(3, -INF))
    refuses(ValueError, "at least one class", integer_ce, x, np.zeros(3, np.int32))
    refuses(ValueError, "at least one class", softmax_cross_entropy, x, x)


@behaviour(13, "no row: results and gradients of shape (0, ...); the mean is 0")
def no_row() -> None:
    x, y = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    assert softmax(x).shape == (0, 4)
    assert jax.grad(lambda x: integer_ce(x, y).sum())(x).shape == (0, 4)
    value, (dF, dW) = linear()(np.zeros((0, 2), np.float32), W, y)
    same((value, dF.shape, dW), (np.float32(0), (0, 2), np.zeros_like(W)))


@behaviour(14, "a scalar: axis -1 raises ValueError; axis None and () give softmax 1")
def scalar() -> None:
    refuses(ValueError, "softmax: axis must lie", softmax, np.float32(3))
    same((softmax(np.float32(3), None), softmax(np.float32(3), ())), (np.float32(1),) * 2)


@behaviour(15, "a negative axis counts from the end")
def negative_axis() -> None:
    same(softmax(X, -2), softmax(X, 0))
    same(integer_ce(X, Y, -1), integer_ce(X, Y, 1))


@behaviour(16, "a tuple of axes shares one distribution, in any order of axes")
def tuple_axis() -> None:
    x = np.stack([X, X + 1])
    close(softmax(x, (0, 2)).sum((0, 2)), np.ones(3))
    close(
        softmax(x, (0, 2)),
        softmax(x.transpose(1, 0, 2).reshape(3, 8)).reshape(3, 2, 4).transpose(1, 0, 2),
    )
    same(logsumexp(x, (2, 0)), logsumexp(x, (0, 2)))


@behaviour(17, "an axis twice or out of range: ValueError; float, str or bool: TypeError")
def bad_axis() -> None:
    for axis in ((0, 0), 2, -3, (0, -2)):
        refuses(ValueError, "softmax: axis must", softmax, X, axis)
    for axis in (1.0, "1", True):
        refuses(TypeError, "softmax: axis must be an int", softmax, X, axis)
    same(softmax(X, np.int64(1)), softmax(X, 1))


@behaviour(18, "no axis, (): softmax is 1, its derivative 0; losses raise ValueError")
def empty_axis() -> None:
    same(softmax(X, ()), np.ones_like(X))
    same(jax.grad(lambda x: softmax(x, ()).sum())(X), np.zeros_like(X))
    refuses(ValueError, "at least one class", softmax_cross_entropy, X, X, ())


# --- dtypes ---


@behaviour(19, "integer logits: softmax converts first; losses raise TypeError")
def integer_logits() -> None:
    close(softmax(np.array([0, 1, 1], np.uint8)), [0.15536241, 0.4223188, 0.4223188])
    same(softmax(np.array([127, -128], np.int8)), np.array([1, 0], np.float32))
    same(softmax(np.array([2**31 - 1, -(2**31)], np.int32)), np.array([1, 0], np.float32))
    refuses(TypeError, "logits must be floating point", integer_ce, X.astype(np.int32), Y)


@behaviour(20, "boolean logits: TypeError")
def bool_logits() -> None:
    for op in (softmax, log_softmax, logsumexp):
        refuses(TypeError, "must be real numbers, got bool", op, X > 0)


@behaviour(21, "complex logits: TypeError")
def complex_logits() -> None:
    for op in (softmax, log_softmax, logsumexp):
        refuses(TypeError, "must be real numbers, got complex64", op, X.astype(np.complex64))


@behaviour(22, "float16 [6e4, -6e4]: p = [1, 0], log p = [0, -∞], as 1.2e5 overflows")
def float16_range() -> None:
    x = np.array([6e4, -6e4], np.float16)
    same(softmax(x), np.array([1, 0], np.float16))
    same(log_softmax(x), np.array([0, -INF], np.float16))


@behaviour(23, "float16, 70 000 ties: p = 1.43e-5, logsumexp = 11.156, and their gradients")
def float16_ties() -> None:
    x = np.zeros(70_000, np.float16)
    p, s = np.full(x.shape, 1 / 70_000, np.float16), np.float16(np.log(70_000))
    same((softmax(x), logsumexp(x), jax.grad(logsumexp)(x)), (p, s, p))


@behaviour(24, "losses of half types are float32: a sum over 20 000 rows does not overflow")
def half_losses() -> None:
    for dtype in (jnp.float16, jnp.bfloat16):
        loss = integer_ce(jnp.zeros((20_000, 100), dtype), jnp.zeros(20_000, jnp.int32))
        assert loss.dtype == jnp.float32
        close(loss.sum(), 20_000 * np.log(100), 1e-5)


@behaviour(25, "bfloat16, 1e5 classes: logsumexp 11.5, Σp = 1 within rounding")
def bfloat16_classes() -> None:
    x = jnp.zeros(100_000, jnp.bfloat16)
    assert logsumexp(x) == jnp.bfloat16(np.log(1e5))
    assert abs(softmax(x).astype(jnp.float32).sum() - 1) <= 0.004


@behaviour(26, "8-bit floats: TypeError that says to upcast")
def float8() -> None:
    for dtype in (jnp.float8_e4m3fn, jnp.float8_e5m2):
        refuses(TypeError, "8-bit floats", softmax, jnp.zeros(3, dtype))


@behaviour(27, "bfloat16 features, float32 kernel: float32 loss, gradients as their arguments")
def mixed_linear() -> None:
    value, (dF, dW) = linear()(jnp.asarray(F, jnp.bfloat16), W, Y)
    assert (value.dtype, dF.dtype, dW.dtype) == (jnp.float32, jnp.bfloat16, jnp.float32)
    close(value, linear_softmax_cross_entropy(F, W, Y), 1e-6)


@behaviour(28, "without 64-bit types a label beyond 32 bits is refused, not cut")
def wide_labels() -> None:
    labels = np.array([2, 2**32 + 1, 1], np.int64)
    refuses(ValueError, "labels must fit int32, got 4294967297 at index", integer_ce, X, labels)


@behaviour(29, "with 64-bit types float32 stays float32, in every result")
def stays_float32() -> None:
    with jax.enable_x64(True):
        results = (
            softmax(X),
            log_softmax(X),
            logsumexp(X),
            integer_ce(X, Y),
            softmax_cross_entropy(X, X),
            cross_entropy(X, Y),
            *linear()(F, W, Y)[1],
        )
        assert {r.dtype for r in results} == {np.dtype(np.float32)}


# --- labels, weights, reductions ---


@behaviour(30, "every row ignored: mean 0, gradients 0")
def all_ignored() -> None:
    value, grads = linear(ignore_index=-1)(F, W, np.full(3, -1, np.int32))
    same((value, *grads), (np.float32(0), np.zeros_like(F), np.zeros_like(W)))


@behaviour(31, "some rows ignored: the mean is over those that count")
def some_ignored() -> None:
    labels = np.array([2, -1, 1], np.int32)
    value, (dF, dW) = linear(ignore_index=-1)(F, W, labels)
    want, (dF2, dW2) = linear()(F[[0, 2]], W, labels[[0, 2]])
    close(value, want)
    close(dW, dW2)
    close(dF[::2], dF2)
    same(dF[1], np.zeros(2, np.float32))


@behaviour(34, "float labels where classes are meant: TypeError")
def float_labels() -> None:
    refuses(TypeError, "labels must be integers of shape", integer_ce, X, Y.astype(np.float32))


@behaviour(35, "boolean labels: TypeError")
def bool_labels() -> None:
    refuses(TypeError, "labels must be integers of shape", integer_ce, X, Y > 0)


@behaviour(36, "small label dtypes are right with more classes than they can count")
def small_labels() -> None:
    x = np.random.default_rng(0).normal(size=(3, 300)).astype(np.float32)
    for dtype in (np.uint8, np.int8, np.int16, np.uint32):
        same(integer_ce(x, Y.astype(dtype)), integer_ce(x, Y))
    same(np.isnan(integer_ce(x, np.array([-1, 3, -128], np.int8))), np.array([True, False, True]))


@behaviour(37, "labels of another shape than the batch: ValueError, never a broadcast")
def label_shapes() -> None:
    for labels in (Y[:, None], Y[:1], Y[0], np.zeros(4, np.int32)):
        refuses(ValueError, "labels must have the shape", integer_ce, X, labels)


@behaviour(38, "distributions of another shape than the logits: ValueError, never a broadcast")
def distribution_shapes() -> None:
    for labels in (X[0], X[:, :1], X[:1]):
        refuses(ValueError, "labels must have the shape", softmax_cross_entropy, X, labels)


@behaviour(40, "∂/∂t of a target at an impossible class is +∞; along ṫ = 0 there it is 0, not NaN")
def label_derivatives() -> None:
    x, t = np.array([1.0, -INF, 2.0], np.float32), np.array([0.5, 0.0, 0.5], np.float32)
    loss = functools.partial(softmax_cross_entropy, x)
    close(jax.grad(loss)(t)[::2], [1.3132617, 0.3132617])
    assert jax.grad(loss)(t)[1] == INF
    close(jax.jvp(loss, (t,), (np.array([1.0, 0.0, -1.0], np.float32),))[1], 1.0)


@behaviour(45, "weights all 0: mean 0, gradients 0")
def zero_weights() -> None:
    for weights in (np.zeros(3, np.float32), np.float32(0)):
        value, grads = linear(weights=weights)(F, W, Y)
        same((value, *grads), (np.float32(0), np.zeros_like(F), np.zeros_like(W)))
    same(integer_ce(X, Y, class_weights=np.zeros(4, np.float32)), np.zeros(3, np.float32))


POISON = [(F * [[1], [bad], [1]]).astype(np.float32) for bad in (NAN, INF)]


@behaviour(46, "weight 0 on a row of NaN or ∞ features: exactly as if the features were others")
def zero_weight_on_poison() -> None:
    weights = np.array([1.0, 0.0, 2.0], np.float32)
    for bad in POISON:
        same(linear(weights=weights)(bad, W, Y), linear(weights=weights)(F, W, Y))


@behaviour(47, "NaN or ∞ features in an ignored row: every gradient bit-identical to without")
def ignored_poison() -> None:
    labels = np.array([2, -1, 1], np.int32)
    for bad in POISON:
        for reduction in ("mean", "sum"):
            run = linear(ignore_index=-1, reduction=reduction)
            same(run(bad, W, labels), run(F, W, labels))


@behaviour(49, "a NaN or ∞ tangent or cotangent under `where` counts for nothing")
def poisoned_tangent() -> None:
    x, where = X[0], np.array([True, True, False, True])
    masked = [functools.partial(op, where=where) for op in (softmax, log_softmax, logsumexp)]

    @jax.jit
    def derivatives(v: Any) -> Any:
        found = []
        for op in (functools.partial(integer_ce, labels=Y[1], where=where), *masked):
            first = jax.grad(lambda x: op(x).ravel()[0])  # noqa: B023
            found += [jax.jvp(f, (x,), (v,))[1] for f in (op, first)]
        return found, [jax.vjp(op, x)[1](v) for op in masked[:2]]

    clean = derivatives(np.array([1, 2, 0, 3], np.float32))
    for bad in (NAN, INF):
        same(derivatives(np.array([1, 2, bad, 3], np.float32)), clean)


@behaviour(
    49,
    "limit: without `where`, a NaN or ∞ tangent at a logit of -∞ makes its row NaN; "
    "a finite one, however large, counts for nothing",
)
def tangent_at_minus_infinity() -> None:
    x = np.array([1.0, -INF, 2.0], np.float32)
    zero, large = (np.array([1.0, bad, 3.0], np.float32) for bad in (0.0, 3e37))
    for op in (softmax, logsumexp, lambda x: integer_ce(x, Y[1])):
        same(jax.jvp(op, (x,), (large,))[1], jax.jvp(op, (x,), (zero,))[1])
    nan = jax.jvp(logsumexp, (x,), (np.array([1.0, NAN, 3.0], np.float32),))[1]
    assert np.isnan(nan)


@behaviour(51, "a mask of rows, broadcast over classes: 0 in value and derivatives of the others")
def row_mask() -> None:
    x = X.copy()
    x[1] = NAN
    mask = np.array([True, False, True])[:, None]
    value, gradient = jax.value_and_grad(lambda x: integer_ce(x, Y, where=mask).sum())(x)
    close(value, integer_ce(X, Y)[jnp.array([0, 2])].sum())
    same(gradient[1], np.zeros(4, np.float32))
    assert np.isfinite(gradient).all()


# --- options ---


@behaviour(52, "temperature 0 or NaN, by division of the caller: NaN, never a silent one-hot")
def temperature_zero() -> None:
    for t in (0.0, NAN):
        assert np.isnan(jax.jit(lambda x, t: softmax(x / t))(X[0], np.float32(t))).all()


@behaviour(53, "a negative temperature reverses the order: it is the caller's own division")
def temperature_negative() -> None:
    same(softmax(X / np.float32(-2)), softmax(-X / np.float32(2)))


@behaviour(
    54,
    "temperature 1e-30: one-hot. Limit: its derivative in the temperature is NaN, as that "
    "of the caller's own division, x / T², is ∞",
)
def temperature_tiny() -> None:
    run = lambda t: softmax(X[0] / t)  # noqa: E731
    same(run(np.float32(1e-30)), np.array([0, 0, 1, 0], np.float32))
    assert np.isnan(jax.jacfwd(run)(np.float32(1e-30))).all()


@behaviour(55, "logits of any float32 magnitude: a row that is finite before is finite after")
def temperature_smallest() -> None:
    x = X[0] - X[0].max()
    same(softmax(x / np.float32(1e-38)), np.array([0, 0, 1, 0], np.float32))


@behaviour(56, "temperature ∞: uniform, and its derivative 0")
def temperature_infinite() -> None:
    run = lambda t: softmax(X[0] / t)  # noqa: E731
    same(run(INF), np.full(4, 0.25, np.float32))
    same(jax.jacfwd(run)(INF), np.zeros(4, np.float32))


@behaviour(57, "scaled, shifted, capped logits of any size under jit: no NaN (see test_jit)")
def scaled_under_jit() -> None:
    x = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    for scale in (1e9, 1e11, 1e30):
        run = jax.jit(
            jax.value_and_grad(lambda x: integer_ce(x / 0.7, jnp.zeros(64, jnp.int32)).sum())
        )
        value, gradient = run(x * np.float32(scale))
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


@behaviour(58, "logit_softcap: 0, negative or NaN is a ValueError, ∞ is no cap")
def bad_softcap() -> None:
    for cap in (0.0, -1.0, float("nan")):
        refuses(
            ValueError,
            "logit_softcap must be positive",
            functools.partial(integer_ce, logit_softcap=cap),
            X,
            Y,
        )
    same(integer_ce(X, Y, logit_softcap=float("inf")), integer_ce(X, Y))


@behaviour(59, "a masked class stays masked under a cap")
def masked_after_cap() -> None:
    where = np.array([True, True, True, False])
    loss = functools.partial(integer_ce, logit_softcap=2.0)
    close(loss(X[0], Y[0], where=where), loss(X[0, :3], Y[0]))


@behaviour(60, "z_loss 0 leaves no trace, whatever the logits")
def no_z_loss() -> None:
    x = np.array([-INF, 1e30, 0.0], np.float32)
    same(integer_ce(x, Y[2] * 0 + 1, z_loss=0.0), np.float32(0))


# --- transformations and configuration ---


@behaviour(61, "vmap over logits, labels or both, any axis, nested: as one by one")
def every_vmap() -> None:
    want = np.stack([[integer_ce(x, y) for y in Y] for x in X])
    over_labels = jax.vmap(integer_ce, (None, 0))
    close(jax.vmap(over_labels, (0, None))(X, Y), want)
    close(jax.vmap(over_labels, (1, None))(X.T, Y), want)
    close(jax.vmap(integer_ce)(X, Y), np.diag(want))
    weighted = jax.vmap(lambda u: linear_softmax_cross_entropy(F, W, Y, weights=u))(
        np.eye(3, dtype=np.float32)
    )
    close(weighted, integer_ce(F @ W, Y))


@behaviour(62, "jit and op by op agree within the promise; bits may depend on the batch size")
def jit_and_eager() -> None:
    for op in (softmax, log_softmax, functools.partial(logsumexp, axis=-1)):
        close(jax.jit(op)(X), op(X), 1e-6)


@behaviour(63, "a donated buffer gives the same result, and is gone")
def donated() -> None:
    x = jnp.array(X)
    same(jax.jit(softmax, donate_argnums=0)(x), jax.jit(softmax)(X))
    assert x.is_deleted()


@behaviour(64, "scan, cond, while and checkpoint change nothing")
def control_flow() -> None:
    loss = integer_ce
    want = jax.vmap(jax.value_and_grad(loss))(X, Y)
    _, got = jax.lax.scan(
        lambda c, a: (c, jax.value_and_grad(loss)(*a)), 0, (jnp.array(X), jnp.array(Y))
    )
    jax.tree.map(close, got, want)
    jax.tree.map(close, jax.vmap(jax.value_and_grad(jax.checkpoint(loss)))(X, Y), want)
    branch = jax.grad(lambda x: jax.lax.cond(x[0] > 0, loss, lambda x, y: x.sum(), x, Y[0]))
    close(branch(X[0]), want[1][0])


@behaviour(65, "every order of modes gives one Hessian, to 1e-12 in float64")
def every_order() -> None:
    with jax.enable_x64(True):
        x = X[0].astype(np.float64)
        loss = lambda x: integer_ce(x, Y[0], label_smoothing=0.1, z_loss=0.1)  # noqa: E731
        modes = (jax.jacfwd, jax.jacrev)
        orders = jax.jit(lambda x: [a(b(loss))(x) for a in modes for b in modes])(x)
        for order in orders[1:]:
            close(order, orders[0], 1e-12)
        close(jax.jit(lambda x: jax.linearize(jax.grad(loss), x)[1](x))(x), orders[0] @ x, 1e-12)


def sharded(f: Callable[..., Any], *specs: Any) -> Any:
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((4,), ("m",), axis_types=auto, devices=jax.devices()[:4])
    shardings = [jax.NamedSharding(mesh, PartitionSpec(*spec)) for spec in specs]
    return jax.jit(f, in_shardings=tuple(shardings))


@behaviour(66, "classes sharded over devices: one distribution, not one a device")
def classes_sharded() -> None:
    close(sharded(softmax, (None, "m"))(X), softmax(X))
    close(sharded(integer_ce, (None, "m"), ())(X, Y), integer_ce(X, Y))


@behaviour(67, "rows that fill up a batch, with weight 0: mean and gradients as without them")
def padded_batch() -> None:
    padded, labels = np.vstack([F, np.full((2, 2), NAN)]), np.append(Y, [0, 0]).astype(np.int32)
    weights = np.array([1, 1, 1, 0, 0], np.float32)
    value, (dF, dW) = linear(weights=weights)(padded.astype(np.float32), W, labels)
    want, (dF2, dW2) = linear()(F, W, Y)
    close(value, want)
    close(dW, dW2)
    close(dF[:3], dF2)


@behaviour(68, "classes sharded, one device all -∞, a label that is no class: as on one")
def classes_sharded_edges() -> None:
    x = X.copy()
    x[:, 1] = -INF
    labels = np.array([3, 7, -1], np.int32)
    run = jax.value_and_grad(lambda x, y: integer_ce(x, y)[0])
    jax.tree.map(close, sharded(run, (None, "m"), ())(x, labels), run(x, labels))
    same(np.isnan(sharded(integer_ce, (None, "m"), ())(x, labels)), np.array([False, True, True]))


@behaviour(69, "second derivatives with classes sharded")
def classes_sharded_twice() -> None:
    hessian = jax.hessian(integer_ce)
    close(sharded(hessian, ("m",), ())(X[0], Y[0]), hessian(X[0], Y[0]))


@behaviour(70, "jax_debug_nans has nothing to say about legal inputs: -∞, masks, zeros, no rows")
def debug_nans() -> None:
    with jax.debug_nans(True):
        zero_row_classes()
        where = np.zeros((3, 4), bool)
        softmax(X, where=where)
        jax.grad(lambda x: integer_ce(x, Y, where=where).sum())(X)
        softmax_cross_entropy(np.array([0.0, -INF], np.float32), np.array([1.0, 0.0], np.float32))
        linear(ignore_index=0)(F, W, Y)


def zero_row_classes() -> None:
    softmax(np.zeros((0, 4), np.float32))
    logsumexp(np.full(3, -INF), -1)


@behaviour(71, "limit: jax_debug_infs trips over the -∞ of `where`")
def debug_infs() -> None:
    with jax.debug_infs(True):
        softmax(X)
        with pytest.raises(FloatingPointError):
            log_softmax(X, where=X > 0)


@behaviour(72, "dtypes of results: as the logits; losses float32, or float64 for float64")
def result_dtypes() -> None:
    with jax.enable_x64(True):
        for dtype in (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64):
            x = jnp.asarray(X, dtype)
            loss = jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)
            gradient = jax.grad(lambda x: integer_ce(x, Y).sum())
            for op in (softmax, log_softmax, logsumexp, gradient):
                assert jax.eval_shape(op, x).dtype == x.dtype
            assert jax.eval_shape(integer_ce, x, Y).dtype == loss
            assert jax.eval_shape(softmax_cross_entropy, x, x).dtype == loss


@behaviour(73, "jax_numpy_dtype_promotion='strict', with bfloat16 logits and float32 targets too")
def strict_promotion() -> None:
    assert softmax_cross_entropy(jnp.asarray(X, jnp.bfloat16), np.abs(X)).dtype == jnp.float32
    softmax_cross_entropy(
        X, np.abs(X), where=X < 9, label_smoothing=0.1, z_loss=0.1, logit_softcap=5.0
    )


@behaviour(74, "jax_numpy_rank_promotion='raise', with a bias, a row mask and class weights")
def strict_ranks() -> None:
    linear_softmax_cross_entropy(
        F, W, Y, np.zeros(4, np.float32), class_weights=np.ones(4, np.float32)
    )
    softmax(X, where=np.array([True, False, True, True]))


@behaviour(75, "jax_default_matmul_precision and jax.nn's own flags change nothing here")
def other_flags() -> None:
    with jax.default_matmul_precision("bfloat16"):
        same(softmax(X), softmax(X.copy()))
        value = linear_softmax_cross_entropy(F, W, Y)
    close(value, linear_softmax_cross_entropy(F, W, Y))


@behaviour(76, "NaN is kept with XLA's default flags; fast-math flags are not supported")
def nan_is_kept() -> None:
    same(jax.jit(softmax)(np.array([1.0, NAN, 2.0], np.float32)), np.full(3, NAN))


@behaviour(77, "labels have no derivative: float0 tangents; argnums on them: TypeError")
def label_tangents() -> None:
    zero = np.zeros(3, jax.dtypes.float0)
    assert jax.jvp(integer_ce, (X, Y), (X, zero))[1].shape == (3,)
    refuses(
        TypeError,
        "grad requires real- or complex-valued inputs",
        jax.grad(lambda x, y: integer_ce(x, y).sum(), 1),
        X,
        Y,
    )


@behaviour(78, "no tracer leaks")
def no_leaks() -> None:
    with jax.checking_leaks():
        jax.jit(jax.hessian(lambda x: integer_ce(x, Y[0])))(X[0])
        jax.jit(linear())(F, W, Y)


@behaviour(79, "class counts around powers of 2, and NumPy arrays of any memory layout")
def layouts() -> None:
    for classes in (1, 2, 3, 31, 32, 33, 127, 128, 129):
        close(softmax(np.zeros(classes, np.float32)), np.full(classes, 1 / classes))
    same(softmax(np.asfortranarray(X)), softmax(X))
    same(softmax(X[:, ::-1]), softmax(np.ascontiguousarray(X[:, ::-1])))


@behaviour(80, "arguments are left alone; lists raise TypeError")
def inputs() -> None:
    before = X.copy()
    softmax(X)
    integer_ce(X, Y)
    same(X, before)
    refuses(TypeError, r"Write jnp.asarray\(x\)", softmax, [1.0, 2.0])
    refuses(TypeError, r"Write jnp.asarray\(logits\)", integer_ce, [[1.0, 2.0]], Y[:1])
