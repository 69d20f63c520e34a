"""What is right of labels, weights, reductions and options."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsoftmax import (
    log_softmax,
    logsumexp,
    softmax,
    softmax_cross_entropy,
    sparsemax,
    sparsemax_loss,
)
from jaxsoftmax import softmax_cross_entropy_with_integer_labels as integer_ce

from .given import INF, NAN, F, W, X, Y, close, linear, refuses, same
from .tables import behaviour

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


@behaviour(81, "sparsemax: −∞ is a class of probability 0; NaN, +∞ or a row of −∞ make NaN")
def sparsemax_edges() -> None:
    for row in ([NAN, 1.0], [INF, 1.0], [-INF, -INF]):
        same(sparsemax(np.float32(row)), np.float32([NAN, NAN]))
        same(jax.grad(sparsemax_loss)(np.float32(row), 0), np.float32([NAN, NAN]))
    same(sparsemax(np.float32([-INF, 3.0])), np.float32([0, 1]))


@behaviour(82, "sparsemax_loss: a label outside [0, C) is NaN, an impossible one +∞, a sure one 0")
def sparsemax_loss_labels() -> None:
    x = np.float32([0.0, -INF])
    found = [sparsemax_loss(x, np.array(label)) for label in (-1, 2, 1, 0)]
    same(np.array(found), np.float32([NAN, NAN, INF, 0.0]))
