"""Kinds of input that gave a wrong number once, each by its smallest example and at random.

What is right is written down, or comes from the dense formula in float64 under JAX's derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsoftmax
from jaxsoftmax import (
    cross_entropy,
    linear_softmax_cross_entropy,
    linear_softmax_kl_divergence,
    log_softmax,
    logsumexp,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    softmax_entropy,
    softmax_jacobian,
    sparsemax,
    sparsemax_loss,
)
from jaxsoftmax.testing.operations import ALL
from jaxsoftmax.testing.rules.compile import jit as quick_jit

NAN, INF = float("nan"), float("inf")
RNG = np.random.default_rng(7)
labels_loss = softmax_cross_entropy_with_integer_labels


def array(*values: Any) -> jax.Array:
    return jnp.asarray(values, jnp.float32)


# ------------------------------------------------------------------------------------------------
# Axes and masks, as in optax
# ------------------------------------------------------------------------------------------------


def test_labels_number_the_classes_in_the_order_of_the_axes() -> None:
    x = jnp.asarray(RNG.normal(size=(2, 3, 4)), jnp.float32)
    y = jnp.asarray([5, 10])
    swapped = jnp.swapaxes(x, 1, 2).reshape(2, 12)
    np.testing.assert_allclose(labels_loss(x, y, axis=(2, 1)), labels_loss(swapped, y), rtol=1e-6)
    np.testing.assert_allclose(
        cross_entropy(softmax(x, (1, 2)), y, axis=(2, 1)), labels_loss(swapped, y), rtol=1e-5
    )
    jacobian = softmax_jacobian(x, axis=(2, 1))
    np.testing.assert_allclose(jacobian, softmax_jacobian(swapped), rtol=1e-6)


@pytest.mark.parametrize("loss", [labels_loss, softmax_cross_entropy, cross_entropy])
def test_a_mask_with_the_dimensions_of_the_losses_is_one_of_rows(loss: Callable[..., Any]) -> None:
    x = np.exp(RNG.normal(size=(3, 3))).astype(np.float32)
    x[1] = NAN
    targets = jnp.asarray([0, 1, 2]) if loss is not softmax_cross_entropy else jnp.eye(3)
    rows = jnp.asarray([True, False, True])
    value, back = jax.vjp(lambda x: loss(x, targets, where=rows), jnp.asarray(x))
    whole = loss(jnp.asarray(x), targets)
    np.testing.assert_allclose(value, jnp.where(rows, whole, 0), rtol=3e-7)
    assert not np.any(back(jnp.ones(3))[0][1])
    assert np.all(np.any(back(jnp.ones(3))[0][np.array([0, 2])] != 0, axis=1))


def test_a_mask_that_is_neither_is_told_how_to_be_one_of_classes() -> None:
    with pytest.raises(ValueError, match=r"for all rows is where.reshape\(1, 1, 4\)"):
        labels_loss(jnp.ones((2, 3, 4)), jnp.zeros((2, 3), int), where=jnp.ones(4, bool))


# ------------------------------------------------------------------------------------------------
# Derivatives in what is 0
# ------------------------------------------------------------------------------------------------


def test_the_derivative_in_a_target_of_0() -> None:
    hessian = jax.jacfwd(jax.grad(cross_entropy, 0), 1)(array(0.2, 0.3, 0.5), array(1, 0, 0))
    np.testing.assert_allclose(jnp.diagonal(hessian), [-5, -10 / 3, -2], rtol=1e-6)


def test_the_derivative_in_a_weight_b_of_0() -> None:
    hessian = jax.hessian(lambda b: logsumexp(jnp.zeros(3), b=b))(array(2, 0, 5))
    np.testing.assert_allclose(hessian, -np.ones((3, 3)) / 49, rtol=1e-6)


N, D, C = 6, 3, 4
F, W, B, G, V = (RNG.normal(size=s) for s in ((N, D), (D, C), (C,), (N, 2), (2, C)))
Y, BAR = RNG.integers(0, C, N), RNG.normal(size=N)
U = np.array([1.0, 0, 2, 0, 0, 0.5])


def _reduced(losses: Any, u: Any, reduction: str) -> Any:
    if reduction == "none":
        return jnp.sum(u * losses * BAR)
    return jnp.sum(u * losses) / (jnp.sum(u) if reduction == "mean" else 1)


def _dense_loss(w: Any, u: Any, reduction: str) -> Any:
    log_p = jax.nn.log_softmax(F @ w + B[None])
    return _reduced(-jnp.take_along_axis(log_p, Y[:, None], 1)[:, 0], u, reduction)


def _dense_divergence(w: Any, u: Any, reduction: str) -> Any:
    log_p, log_q = jax.nn.log_softmax(F @ w), jax.nn.log_softmax(jnp.asarray(G @ V))
    return _reduced(jnp.sum(jnp.exp(log_q) * (log_q - log_p), 1), u, reduction)


def _loss(w: Any, u: Any, reduction: str) -> Any:
    value = linear_softmax_cross_entropy(F, w, Y, B, weights=u, reduction=reduction, block_size=4)
    return jnp.sum(value * BAR) if reduction == "none" else value


def _divergence(w: Any, u: Any, reduction: str) -> Any:
    value = linear_softmax_kl_divergence(F, w, G, V, weights=u, reduction=reduction, block_size=4)
    return jnp.sum(value * BAR) if reduction == "none" else value


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
@pytest.mark.parametrize(
    ("ours", "dense"), [(_loss, _dense_loss), (_divergence, _dense_divergence)]
)
def test_derivatives_in_the_weights_of_rows_that_weigh_nothing(
    ours: Callable[..., Any], dense: Callable[..., Any], reduction: str
) -> None:
    """Of order one and two, as reweighting by meta-gradients takes them."""

    def derivatives(f: Callable[..., Any]) -> Any:
        def of(w: Any, u: Any) -> Any:
            return f(w, u, reduction)

        def all_of_them(w: Any, u: Any) -> Any:
            return (
                jax.grad(of, 1)(w, u),
                jax.hessian(of, 1)(w, u),
                jax.jacrev(jax.grad(of, 0), 1)(w, u),
                jax.jacfwd(jax.grad(of, 1), 0)(w, u),
                jax.jacfwd(jax.jacfwd(of, 0), 1)(w, u),
            )

        return jax.jit(all_of_them)(jnp.asarray(W), jnp.asarray(U))

    for got, expected in zip(derivatives(ours), derivatives(dense), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
def test_nan_in_a_row_that_weighs_nothing_spoils_its_own_entry_alone(reduction: str) -> None:
    features = np.float32(F)
    features[1, 0] = NAN
    args = features, np.float32(W), np.int32(Y)

    def loss(w: Any, u: Any) -> Any:
        losses = linear_softmax_cross_entropy(features, w, args[2], weights=u, reduction=reduction)
        return jnp.sum(losses)

    value, (w_bar, u_bar) = jax.value_and_grad(loss, (0, 1))(args[1], np.float32(U))
    assert np.isfinite(value)
    assert np.all(np.isfinite(w_bar))
    assert np.array_equal(np.isnan(u_bar), np.arange(N) == 1)


def test_a_row_that_is_not_asked_for_spoils_nothing() -> None:
    """The caller selects afterwards: the cotangent of a row of NaN is 0."""
    features = np.float32(F)
    features[1, 0] = NAN
    asked = np.arange(N) != 1

    def loss(w: Any) -> Any:
        losses = linear_softmax_cross_entropy(features, w, np.int32(Y), reduction="none")
        return jnp.sum(jnp.where(asked, losses, 0))

    def without(w: Any) -> Any:
        rest = np.float32(F)[asked], w, np.int32(Y)[asked]
        return linear_softmax_cross_entropy(*rest, reduction="sum")

    w = np.float32(W)
    np.testing.assert_allclose(jax.grad(loss)(w), jax.grad(without)(w), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------------
# Integers
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "label", [np.int64(2**32), np.uint64(2**63), 2**32, 2**70, np.array(2**32)]
)
def test_a_label_of_more_bits_than_jax_has_is_refused(label: Any) -> None:
    with pytest.raises(ValueError, match=r"labels must fit u?int32, got "):
        labels_loss(array(1, 0, 2), label)


def test_an_ignored_label_outside_of_the_dtype_of_labels_does_not_occur() -> None:
    label = jnp.asarray(1, jnp.uint32)
    x = array(1, 0, 2)
    assert labels_loss(x, label, ignore_index=-100) == labels_loss(x, label)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_outside_that_is_a_constant_under_jit_is_nan(label: int) -> None:
    x = array(1, 2, 3)
    assert np.isnan(jax.jit(lambda x: labels_loss(x, label))(x))
    assert np.all(np.isnan(jax.jit(jax.grad(lambda x: labels_loss(x, label)))(x)))
    assert np.all(np.isnan(jax.jit(lambda: jax.grad(lambda x: labels_loss(x, label))(x))()))


# ------------------------------------------------------------------------------------------------
# logsumexp with b
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("poison", [89.0, 1e30, INF, -INF, NAN])
def test_an_entry_of_weight_0_has_no_part(mode: Callable[..., Any], poison: float) -> None:
    gradient = mode(lambda a: logsumexp(a, b=array(1, 0)))(array(0, poison))
    np.testing.assert_array_equal(gradient, [1, 0])


@pytest.mark.parametrize("poison", [89.0, INF, -INF, NAN])
def test_an_entry_of_weight_0_has_no_part_in_reverse_over_reverse(poison: float) -> None:
    hessian = jax.jacrev(jax.grad(lambda a: logsumexp(a, b=array(1, 0, 1))))(array(0, poison, 0))
    np.testing.assert_allclose(hessian, [[0.25, 0, -0.25], [0, 0, 0], [-0.25, 0, 0.25]])


def test_the_derivative_in_a_weight_of_0_of_what_is_larger_than_the_rest() -> None:
    gradient = jax.jit(jax.grad(lambda b: logsumexp(array(0, 3), b=b)))(array(1, 0))
    np.testing.assert_allclose(gradient, [1, np.exp(3)], rtol=1e-6)


@pytest.mark.parametrize("classes", [3, 40])
@pytest.mark.parametrize("poison", [INF, NAN])
def test_with_weights_what_is_poisoned_is_so_as_without(classes: int, poison: float) -> None:
    """Infinity has a value and no derivative, NaN neither; compiled and op by op."""
    x, bar = RNG.normal(size=(2, 4, classes)).astype(np.float32)
    x[1, 1] = poison
    b = np.full_like(x, 2)

    def all_of_it(x: Any, b: Any) -> Any:
        value, back = jax.vjp(lambda x, b: logsumexp(x, 1, b), x, b)
        return value, *back(bar[:, 0]), jax.jvp(lambda x: logsumexp(x, 1, b), (x,), (bar,))[1]

    for run in (all_of_it, jax.jit(all_of_it)):
        value, *derivatives = run(x, b)
        np.testing.assert_allclose(value, logsumexp(x, 1) + np.log(np.float32(2)), rtol=1e-6)
        for derivative in derivatives:
            poisoned = np.isnan(np.asarray(derivative).reshape(4, -1))
            np.testing.assert_array_equal(poisoned.all(1), np.arange(4) == 1)
            assert not poisoned[[0, 2, 3]].any()


def test_large_and_small_weights_are_logarithms_added() -> None:
    for exponent, weight in ((50.0, 1e30), (80.0, 3e38), (-80.0, 1e30), (50.0, 1e-30)):
        value = logsumexp(array(exponent, exponent - 3), b=np.float32(weight))
        right = exponent + np.log(weight) + np.log1p(np.exp(-3))
        np.testing.assert_allclose(value, right, rtol=1e-6)


def test_a_row_masked_throughout_has_no_derivative() -> None:
    where = jnp.asarray([[False, False], [True, True]])
    for mode in (jax.jacfwd, jax.jacrev):
        jacobian = mode(lambda a: logsumexp(a, 1, b=jnp.ones((2, 2)), where=where))(
            jnp.zeros((2, 2))
        )
        np.testing.assert_allclose(jacobian[0], 0)
        np.testing.assert_allclose(jacobian[1, 1], [0.5, 0.5])


def test_large_logits_with_weights_are_the_same_under_jit() -> None:
    h, w = (jnp.asarray(RNG.normal(size=s), jnp.float32) for s in ((64, 8), (8, 64)))
    b = jnp.asarray(RNG.uniform(size=64), jnp.float32)

    def f(h: Any) -> Any:
        return logsumexp((h @ (w * 1e9)) * 1.7, -1, b[None])

    with jax.disable_jit():
        expected = f(h)
    np.testing.assert_allclose(jax.jit(f)(h), expected, rtol=1e-6)


def test_the_sign_of_nan_is_nan() -> None:
    assert np.isnan(logsumexp(array(NAN, 1), return_sign=True)[1])


# ------------------------------------------------------------------------------------------------
# A row of -inf that the caller selects away
# ------------------------------------------------------------------------------------------------

LABELS, TARGETS = jnp.asarray([1, 0, 2]), jnp.full((3, 1), 0.25)
GUARDED: dict[str, Callable[[jax.Array], jax.Array]] = {
    "log_softmax": log_softmax,
    "logsumexp": lambda x: logsumexp(x, -1),
    "logsumexp, b": lambda x: logsumexp(x, -1, jnp.full_like(x, 2.0)),
    "softmax_entropy": softmax_entropy,
    "sparsemax": sparsemax,
    "sparsemax_loss": lambda x: sparsemax_loss(x, LABELS),
    "labels": lambda x: labels_loss(x, LABELS, label_smoothing=0.1, z_loss=0.1),
    "targets": lambda x: softmax_cross_entropy(x, jnp.broadcast_to(TARGETS, x.shape), z_loss=0.1),
}


@pytest.mark.parametrize("classes", [4, 40])
@pytest.mark.parametrize("op", GUARDED)
def test_a_row_of_minus_infinity_that_is_selected_away_has_no_gradient(
    op: str, classes: int
) -> None:
    """In reverse, and forward over it; the limit is softmax, which would pay for asking."""
    good = jnp.asarray([True, False, True])

    def total(x: Any) -> Any:
        value = GUARDED[op](x)
        chosen = good.reshape(-1, *[1] * (value.ndim - 1))
        return jnp.sum(jnp.where(chosen, value, 0) ** 2)

    def derivatives(x: Any, v: Any) -> Any:
        return jax.jvp(jax.grad(total), (x,), (v,))

    run = quick_jit(derivatives)
    random = np.random.default_rng(11)
    x, v = random.normal(0, 0.3, (2, 3, classes)).astype(np.float32)
    guarded = np.where(good[:, None], x, -INF).astype(np.float32)
    for ours, right in zip(run(guarded, v), run(x, v), strict=True):
        np.testing.assert_array_equal(ours, right)
        assert np.any(right[0])
        assert not np.any(right[1])


# ------------------------------------------------------------------------------------------------
# 0 times impossible
# ------------------------------------------------------------------------------------------------


def test_a_target_of_0_on_an_impossible_class_adds_nothing() -> None:
    x, w = array(1, -INF, 2), array(1, 0, 1)
    value, gradient = jax.value_and_grad(lambda x: labels_loss(x, 1, class_weights=w))(x)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros(3))
    smoothed = labels_loss(
        array(1, 5, 2), 1, label_smoothing=1.0, where=jnp.asarray([True, False, True])
    )
    np.testing.assert_allclose(smoothed, np.log(1 + np.e) - 0.5, rtol=1e-6)


@pytest.mark.parametrize("budget", [None, 4 * 128])
def test_the_same_with_tiles(budget: int | None) -> None:
    classes = 300
    bias = jnp.zeros(classes).at[7].set(-INF)
    w = jnp.ones(classes).at[7].set(0)
    loss = linear_softmax_cross_entropy(
        jnp.ones((4, 2)),
        jnp.zeros((2, classes)),
        jnp.full(4, 7),
        bias,
        class_weights=w,
        memory_budget=budget,
    )
    assert loss == 0


# --- NaN in rows of more than a few classes: a maximum on CPU may drop it -------------------------


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("classes", [25, 1000, 4100])
def test_a_nan_anywhere_in_a_long_row_is_in_all_that_the_row_gives(classes, mode):
    random = np.random.default_rng(classes)
    x = random.normal(0, 3, (16, classes)).astype(np.float32)
    x[np.arange(16), random.integers(0, classes, 16)] = np.nan
    given = {
        "labels": random.integers(0, classes, 16).astype(np.int32),
        "targets": random.dirichlet(np.ones(classes), 16).astype(np.float32),
    }
    for op in ALL:
        if "features" in op.inputs:
            continue

        def value(x, op=op):
            return op.function(x, *map(given.get, op.inputs[1:]))

        def both(x, value=value):
            out, back = jax.vjp(value, x)
            return out, back(jnp.full_like(out, 1.5))[0]

        with jaxsoftmax.kernels(mode):
            found = [jax.jit(value)(x), *jax.jit(both)(x)]  # programs drop different things
        assert all(np.isnan(part).all() for part in found), op.name
