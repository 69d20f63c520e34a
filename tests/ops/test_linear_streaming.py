"""The linear loss against the loss on logits: values, every derivative, memory, work, edges."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax import (
    linear_softmax_cross_entropy,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)
from jaxsoftmax.testing._compile import jit as quick_jit

N, D, C = 11, 3, 5


def problem(dtype, rows=N, features=D, classes=C):
    keys = jax.random.split(jax.random.key(1), 5)
    return (
        jax.random.normal(keys[0], (rows, features), dtype),
        jax.random.normal(keys[1], (features, classes), dtype),
        jax.random.normal(keys[2], (classes,), dtype),
        jax.random.uniform(keys[3], (rows,), dtype),
        jax.random.randint(keys[4], (rows,), 0, classes),
    )


def on_logits(features, kernel, bias, weights, labels, *, reduction="mean", where=None, **options):
    logits = features @ kernel + bias[None, :]
    where = None if where is None else jnp.broadcast_to(where, logits.shape)
    loss = softmax_cross_entropy_with_integer_labels
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        loss = softmax_cross_entropy
    losses = weights * loss(logits, labels, -1, where, **options)
    if reduction == "none":
        return losses
    return jnp.sum(losses) / (jnp.sum(weights) if reduction == "mean" else 1)


def streamed(features, kernel, bias, weights, labels, **options):
    return linear_softmax_cross_entropy(features, kernel, labels, bias, weights=weights, **options)


def assert_close(ours, theirs, tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), ours, theirs
    )


MODES_OF_ORDERS = {
    "forward over reverse": (jax.jacfwd, jax.jacrev),
    "reverse over forward": (jax.jacrev, jax.jacfwd),
    "reverse over reverse": (jax.jacrev, jax.jacrev),
}


def both_orders(order, f):
    """The second derivative and the first, in one program."""
    outer, inner = MODES_OF_ORDERS[order]
    wrt = (0, 1, 2, 3)

    def first(*args):
        jacobian = inner(f, wrt)(*args)
        return jacobian, jacobian

    return outer(first, wrt, has_aux=True)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("order", "reduction"),
    [*((order, "mean") for order in MODES_OF_ORDERS), ("forward over reverse", "none")],
)
def test_derivatives_of_both_orders_in_all_modes(order, reduction):
    """Blocks of 4 of 11 rows: two in the scan and a rest of 3."""
    *moving, labels = problem(jnp.float64)
    options = {"reduction": reduction, "label_smoothing": 0.1, "z_loss": 0.1, "logit_softcap": 3.0}

    def all_modes(loss, **more):
        return quick_jit(both_orders(order, lambda *args: loss(*args, labels, **options, **more)))

    assert_close(
        all_modes(streamed, block_size=4)(*moving), all_modes(on_logits)(*moving), tolerance=1e-13
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("block_size", "reduction"),
    [(1, "mean"), (5, "sum"), (11, "none"), (100, "sum"), (None, "mean")],
)
def test_blocks_of_any_size_give_the_same(block_size, reduction):
    *moving, labels = problem(jnp.float64)
    options = {"reduction": reduction, "block_size": block_size}
    ours = jax.jit(lambda *args: streamed(*args, labels, **options))(*moving)
    assert_close(ours, on_logits(*moving, labels, reduction=reduction), tolerance=1e-14)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(C,), (N, C), (N, 1), (1, 1)])
def test_masks_of_every_shape(shape):
    *moving, labels = problem(jnp.float64)
    where = jax.random.bernoulli(jax.random.key(5), 0.7, shape).at[..., :1].set(True)
    labels = jnp.where(jnp.broadcast_to(where, (N, C))[jnp.arange(N), labels], labels, 0)

    def grads(loss, **more):
        def total(*args):
            return loss(*args, moving[3], labels, where=where, reduction="sum", **more)

        return quick_jit(jax.value_and_grad(total, (0, 1, 2)))(*moving[:3])

    assert_close(grads(streamed, block_size=4), grads(on_logits), tolerance=1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_distributions_and_class_weights_are_differentiated(reduction):
    *moving, labels = problem(jnp.float64)
    targets = jax.random.uniform(jax.random.key(3), (N, C), jnp.float64)
    class_weights = jnp.linspace(0.5, 2.0, C)

    def jacobian(loss, labels, argnums, **more):
        def of(targets, class_weights):
            given = labels if labels is not None else targets
            return loss(*moving, given, class_weights=class_weights, reduction=reduction, **more)

        return quick_jit(jax.jacrev(of, argnums))(targets, class_weights)

    for given, argnums in ((None, (0, 1)), (labels, 1)):
        ours = jacobian(streamed, given, argnums, block_size=4)
        assert_close(ours, jacobian(on_logits, given, argnums), tolerance=1e-13)


@pytest.mark.usefixtures("x64")
def test_gradients_of_each_example_by_vmap():
    features, kernel, bias, _, labels = problem(jnp.float64)
    one = jax.grad(lambda w, f, y: linear_softmax_cross_entropy(f, w, y, bias))
    each = jax.vmap(one, (None, 0, 0))(kernel, features, labels)
    logits = features @ kernel + bias[None, :]
    residual = jax.nn.softmax(logits) - jax.nn.one_hot(labels, C)
    assert_close(each, features[:, :, None] * residual[:, None, :], tolerance=1e-13)


# ------------------------------------------------------------------------------------------------
# Memory and work, as compiled
# ------------------------------------------------------------------------------------------------

MODES = {
    "value": lambda f, v: f,
    "gradient": lambda f, v: jax.grad(f, (0, 1, 2)),
    "jvp": lambda f, v: lambda *a: jax.jvp(f, a, v)[1],
    "forward over reverse": lambda f, v: lambda *a: jax.jvp(jax.grad(f, (0, 1, 2)), a, v)[1],
    "reverse over forward": lambda f, v: jax.grad(lambda *a: jax.jvp(f, a, v)[1], (0, 1, 2)),
    "reverse over reverse": lambda f, v: jax.grad(
        lambda *a: sum(map(jnp.vdot, jax.grad(f, (0, 1, 2))(*a), v)), (0, 1, 2)
    ),
}


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("mode", MODES)
def test_no_mode_holds_the_logits(mode, reduction):
    features, kernel, bias, weights, labels = problem(jnp.float32, rows=96, classes=50)

    def loss(*args):
        losses = streamed(*args, None, labels, reduction=reduction, block_size=16)
        return jnp.sum(weights * losses) if reduction == "none" else losses

    args = (features, kernel, bias)
    text = jax.jit(MODES[mode](loss, args)).lower(*args).compile().as_text()
    sizes = [math.prod(map(int, s.split(","))) for s in re.findall(r"\w\[([\d,]+)\]", text)]
    assert 16 * 50 in sizes  # a block of logits
    assert max(sizes) < 96 * 50


def test_work_is_a_matrix_product_for_each_gradient_asked_for():
    rows, features, classes = 64, 512, 64
    args = problem(jnp.float32, rows, features, classes)[:3]
    labels = jnp.zeros(rows, jnp.int32)

    def products(function):
        flops = jax.jit(function).lower(*args).compile().cost_analysis()["flops"]
        return flops / (2 * rows * features * classes)

    def loss(features, kernel, bias):
        return linear_softmax_cross_entropy(features, kernel, labels, bias)

    probe = jax.grad(loss, (1, 2))
    assert products(loss) == pytest.approx(1, abs=0.2)
    assert products(jax.value_and_grad(loss, (1, 2))) == pytest.approx(2, abs=0.2)
    assert products(jax.value_and_grad(loss, (0, 1, 2))) == pytest.approx(3, abs=0.2)
    # A Hessian product of a linear probe: logits, their tangent, and back.
    hessian_product = functools.partial(jax.jvp, lambda w, b: probe(args[0], w, b), args[1:])
    tangents = args[1:]
    assert products(lambda *a: hessian_product(tangents)[1]) <= 3.2


# ------------------------------------------------------------------------------------------------
# Dtypes
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features_dtype", "kernel_dtype"),
    [
        (jnp.bfloat16, jnp.bfloat16),
        (jnp.float16, jnp.float16),
        (jnp.bfloat16, jnp.float32),
        (jnp.float32, jnp.float16),
        (jnp.bfloat16, jnp.float16),
    ],
)
def test_half_types_accumulate_in_float32(features_dtype, kernel_dtype):
    features, kernel, bias, _, labels = problem(jnp.float32, rows=600, features=64)
    features, kernel = features.astype(features_dtype), kernel.astype(kernel_dtype)

    def loss(features, kernel, bias):
        return linear_softmax_cross_entropy(features, kernel, labels, bias, block_size=50)

    gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))
    value, bars = gradients(features, kernel, bias)
    wide = (features.astype(jnp.float32), kernel.astype(jnp.float32), bias)
    expected, wide_bars = gradients(*wide)

    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert [bar.dtype for bar in bars] == [features_dtype, kernel_dtype, jnp.float32]
    for bar, wide_bar in zip(bars[1:], wide_bars[1:], strict=True):
        # Rounding of G to the type of the products, and of the result to its own.
        unit = max(float(jnp.finfo(t).eps) for t in (features_dtype, kernel_dtype))
        error = jnp.max(jnp.abs(bar.astype(jnp.float32) - wide_bar))
        assert error <= unit * jnp.max(jnp.abs(wide_bar))


def test_float16_keeps_gradients_smaller_than_its_smallest_number():
    """The mean over 2**18 rows divides by more than float16 can express in G."""
    rows = 2**18
    features = jnp.ones((rows, 1), jnp.float16)
    labels = jnp.arange(rows) % 4 == 0
    bar = jax.grad(linear_softmax_cross_entropy, argnums=1)(
        features, jnp.zeros((1, 2), jnp.float16), labels.astype(jnp.int32)
    )
    np.testing.assert_allclose(bar, [[-0.25, 0.25]], rtol=2e-3)


@pytest.mark.usefixtures("x64")
def test_a_float64_argument_makes_the_loss_float64():
    features, kernel, _, _, labels = problem(jnp.float64)
    value, bar = jax.value_and_grad(linear_softmax_cross_entropy)(
        features.astype(jnp.float32), kernel, labels
    )
    assert (value.dtype, bar.dtype) == (jnp.float64, jnp.float32)


# ------------------------------------------------------------------------------------------------
# Rows that do not count, and labels that are none
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("reason", ["weights", "ignore_index", "where"])
def test_rows_left_out_contribute_nothing_whatever_their_features(reason, reduction):
    features, kernel, bias, _, labels = problem(jnp.float32)
    out = jnp.arange(N) % 3 == 1
    features = jnp.where(out[:, None], jnp.asarray([jnp.nan, jnp.inf, -jnp.inf])[None], features)
    options = {
        "weights": {"weights": jnp.where(out, 0.0, 1.0)},
        "ignore_index": {"ignore_index": -100},
        "where": {"where": ~out[:, None]},
    }[reason]
    if reason == "ignore_index":
        labels = jnp.where(out, -100, labels)

    def gradients(features, labels, **options):
        def loss(features, kernel, bias):
            losses = linear_softmax_cross_entropy(
                features, kernel, labels, bias, reduction=reduction, block_size=4, **options
            )
            return jnp.sum(losses), losses

        of = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))
        return of(features, kernel, bias)

    (total, losses), (f_bar, *bars) = gradients(features, labels, **options)
    (kept_total, _), (kept_f_bar, *kept_bars) = gradients(features[~out], labels[~out])
    assert not np.any(f_bar[out])
    if reduction == "none":
        assert not np.any(losses[out])
    assert_close((total, f_bar[~out], bars), (kept_total, kept_f_bar, kept_bars), tolerance=1e-6)


def test_an_empty_mean_is_zero():
    features, kernel, bias, _, labels = problem(jnp.float32)
    for options in ({"weights": jnp.zeros(N)}, {"where": jnp.zeros(C, bool)}):
        value, bars = jax.value_and_grad(
            lambda *args, options=options: streamed(*args, labels=labels, **options), (0, 1)
        )(features, kernel, bias, options.pop("weights", jnp.ones(N)))
        assert value == 0
        assert not any(np.any(bar) for bar in bars)
    none = linear_softmax_cross_entropy(features[:0], kernel, labels[:0], bias)
    assert none == 0


@pytest.mark.parametrize("label", [-1, C, 2**31 - 1])
def test_a_label_that_is_no_class_poisons_its_row_alone(label):
    features, kernel, bias, _, labels = problem(jnp.float32)
    labels = labels.at[2].set(label)

    def losses(features):
        return linear_softmax_cross_entropy(
            features, kernel, labels, bias, reduction="none", block_size=4
        )

    value, back = jax.vjp(losses, features)
    (f_bar,) = back(jnp.ones(N))
    np.testing.assert_array_equal(np.isnan(value), np.arange(N) == 2)
    np.testing.assert_array_equal(np.isnan(f_bar).all(1), np.arange(N) == 2)
    np.testing.assert_array_equal(np.isnan(f_bar).any(1), np.arange(N) == 2)
    kernel_bar = jax.grad(linear_softmax_cross_entropy, 1)(features, kernel, labels, bias)
    assert np.isnan(kernel_bar).all()


def test_batch_axes_are_kept():
    features, kernel, bias, weights, labels = problem(jnp.float32, rows=12)
    flat = streamed(features, kernel, bias, weights, labels, reduction="none")
    shaped = streamed(
        features.reshape(3, 4, D),
        kernel,
        bias,
        weights.reshape(3, 4),
        labels.reshape(3, 4),
        reduction="none",
    )
    np.testing.assert_array_equal(shaped, flat.reshape(3, 4))
    one = linear_softmax_cross_entropy(features[0], kernel, labels[0], bias)
    np.testing.assert_allclose(one * weights[0], flat[0], rtol=1e-6)


# ------------------------------------------------------------------------------------------------
# Errors
# ------------------------------------------------------------------------------------------------

F, W, Y = jnp.zeros((4, 3)), jnp.zeros((3, 2)), jnp.zeros(4, jnp.int32)


@pytest.mark.parametrize(
    ("args", "options", "error", "message"),
    [
        (
            (F, W[0], Y),
            {},
            ValueError,
            "kernel must have the shape (D, C), one column a class, got float32[2].",
        ),
        (
            (F, W.T, Y),
            {},
            ValueError,
            (
                "features must have the shape (..., 2) to go with a kernel of shape (2, 3), got "
                "float32[4, 3]."
            ),
        ),
        (
            (F, W, Y, jnp.zeros(3)),
            {},
            ValueError,
            "bias must have the shape (2,), one number a class, got float32[3].",
        ),
        (
            (F, W, Y),
            {"reduction": "average"},
            ValueError,
            'reduction must be "mean", "sum" or "none", got \'average\'.',
        ),
        (
            (F, W, jnp.zeros((4, 2))),
            {"ignore_index": 1},
            ValueError,
            (
                "ignore_index goes with integer labels, got float32 labels. Give the rows to leave "
                "out the weight 0."
            ),
        ),
        (
            (F, W, Y),
            {"block_size": 0},
            ValueError,
            "block_size must be a whole number, at least 1, got 0.",
        ),
        (
            (F, W, Y),
            {"memory_budget": 1.5},
            ValueError,
            "memory_budget must be a whole number, at least 1, got 1.5.",
        ),
        (
            (F, W, Y),
            {"weights": jnp.zeros(3)},
            ValueError,
            "weights must broadcast to the shape (4,), got float32[3].",
        ),
        (
            (F.astype(jnp.int32), W, Y),
            {},
            TypeError,
            (
                "features must be floating point, got int32[4, 3]. "
                "Write features.astype(jnp.float32); were the arguments swapped?"
            ),
        ),
    ],
)
def test_errors_are_sentences(args, options, error, message):
    with pytest.raises(error) as caught:
        linear_softmax_cross_entropy(*args, **options)
    assert str(caught.value) == f"linear_softmax_cross_entropy: {message}"


# ------------------------------------------------------------------------------------------------
# Statistics
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("distributions", [False, True])
def test_statistics_come_with_the_loss(reduction, distributions):
    features, kernel, bias, weights, labels = problem(jnp.float32)
    weights = weights.at[3].set(0)
    targets = jax.nn.one_hot(labels, C) * 0.5 + 0.1

    def loss(kernel):
        given = targets if distributions else labels
        options = {"weights": weights, "reduction": reduction, "block_size": 4}
        return linear_softmax_cross_entropy(
            features, kernel, given, bias, return_stats=True, **options
        )

    logits = features @ kernel + bias[None, :]
    log_p = jax.nn.log_softmax(logits)
    t = targets if distributions else jax.nn.one_hot(labels, C)
    expected = (
        jax.nn.logsumexp(logits, -1),
        jnp.sum(t * log_p, -1),
        jnp.argmax(logits, -1).astype(jnp.float32),
        -jnp.sum(jnp.exp(log_p) * log_p, -1),
    )
    left_out = (0, 0, -1, 0)
    gradient, stats = jax.jacrev(loss, has_aux=True)(kernel)
    for statistic, right, other in zip(stats, expected, left_out, strict=True):
        np.testing.assert_allclose(statistic, right.at[3].set(other), rtol=2e-6)
    assert stats.prediction.dtype == jnp.int32
    np.testing.assert_allclose(
        gradient, jax.jacrev(lambda kernel: loss(kernel)[0])(kernel), rtol=1e-6
    )
