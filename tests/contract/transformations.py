"""What is right under transformations and JAX's configuration."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify
from jax.sharding import PartitionSpec

from jaxsoftmax import (
    linear_softmax_cross_entropy,
    log_softmax,
    logsumexp,
    softmax,
    softmax_cross_entropy,
)
from jaxsoftmax import softmax_cross_entropy_with_integer_labels as integer_ce

from .given import INF, NAN, F, W, X, Y, close, linear, refuses, same
from .tables import behaviour


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


@behaviour(
    83, "a row of −∞ that the caller selects away has gradient 0 (softmax: NaN, say `where`)"
)
def selected_away() -> None:
    x = np.vstack([X, np.full((1, 4), -INF)])
    for op in (log_softmax, functools.partial(logsumexp, axis=-1)):
        value, back = jax.vjp(op, x)
        (gradient,) = back(jnp.zeros_like(value))
        same(gradient, np.zeros_like(x))


@behaviour(84, "checkify finds nothing in legal input; debug modes in all ops: test_debug_modes")
def checkified() -> None:
    x, t = np.array([0.0, -INF], np.float32), np.array([1.0, 0.0], np.float32)
    loss = checkify.checkify(jax.grad(softmax_cross_entropy), errors=checkify.all_checks)
    assert loss(x, t)[0].get() is None


@behaviour(85, "a weight and a target of 0 on an impossible class: derivative 0 in either")
def weights_of_nothing() -> None:
    x, t, w = (np.array(row, np.float32) for row in ([1, -INF, 2], [0.5, 0, 0.5], [1, 0, 2]))
    bars = jax.grad(lambda t, w: softmax_cross_entropy(x, t, class_weights=w), (0, 1))(t, w)
    same(np.array(bars)[:, 1], np.zeros(2, np.float32))


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
