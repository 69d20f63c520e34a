"""What the linear loss takes and gives: dtypes, rows left out, errors, statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax import (
    linear_softmax_cross_entropy,
)
from tests.ops.linear_problem import C, D, N, assert_close, problem, streamed

# ------------------------------------------------------------------------------------------------
# Dtypes
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features_dtype", "kernel_dtype"),
    [
        (jnp.bfloat16, jnp.bfloat16),
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


@pytest.mark.parametrize(
    ("reason", "reduction"),
    [
        ("weights", "sum"),
        *((r, n) for r in ("weights", "ignore_index", "where") for n in ("mean", "none")),
    ],
)
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


@pytest.mark.parametrize(("reduction", "distributions"), [("mean", True), ("none", False)])
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
        jnp.argsort(jnp.argsort(-logits, -1), -1)[jnp.arange(N), labels].astype(jnp.float32),
    )
    left_out = (0, 0, -1, 0, -1)
    gradient, stats = jax.jacrev(loss, has_aux=True)(kernel)
    for statistic, right, other in zip(stats, expected, left_out, strict=True):
        np.testing.assert_allclose(statistic, right.at[3].set(other), rtol=2e-6)
    assert stats.prediction.dtype == jnp.int32
    np.testing.assert_allclose(
        gradient, jax.jacrev(lambda kernel: loss(kernel)[0])(kernel), rtol=1e-6
    )
