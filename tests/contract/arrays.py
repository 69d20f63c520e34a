"""What is right of shapes, axes and dtypes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxsoftmax import (
    cross_entropy,
    linear_softmax_cross_entropy,
    log_softmax,
    logsumexp,
    softmax,
    softmax_cross_entropy,
)
from jaxsoftmax import softmax_cross_entropy_with_integer_labels as integer_ce

from .given import INF, F, W, X, Y, close, linear, refuses, same
from .tables import behaviour

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
    refuses(ValueError, "softmax: axis must be None", softmax, np.float32(3))
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
