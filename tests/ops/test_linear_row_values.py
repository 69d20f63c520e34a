"""Log-probabilities and statistics of rows: every derivative against autodiff of dense logits."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax import linear_log_softmax, linear_softmax_cross_entropy, linear_softmax_stats
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.ops.linear_problem import C, N, assert_close
from tests.ops.linear_row_values import (
    dense_log_probs,
    dense_logits,
    dense_stats,
    picks_of,
    point,
    weighted_sum,
)

CAP = {"logit_softcap": 2.0}
MASK = jax.random.bernoulli(jax.random.key(2), 0.7, (N, C))


def stats(labels, f, w, b, t, **options):
    return linear_softmax_stats(f, w, labels, b, temperature=t, **options)


def dense_of_stats(labels, *args, block_size=None, **options):
    return dense_stats(dense_logits(*args, **options), labels)


def log_probs(picks, f, w, b, t, **options):
    return linear_log_softmax(f, w, picks, b, temperature=t, return_rest=True, **options)


def dense_of_log_probs(picks, *args, block_size=None, **options):
    return dense_log_probs(dense_logits(*args, **options), picks)


def stats_with_loss(labels, f, w, b, t, **options):
    return linear_softmax_cross_entropy(
        f, w, labels, b, temperature=t, return_stats=True, **options
    )


def dense_of_stats_with_loss(labels, *args, block_size=None, **options):
    known = dense_of_stats(labels, *args, **options)
    return -jnp.mean(known[1]), known


PAIRS = {
    "statistics": (stats, dense_of_stats, "labels"),
    "statistics with the loss": (stats_with_loss, dense_of_stats_with_loss, "labels"),
    "log-probabilities": (log_probs, dense_of_log_probs, "picks"),
}


def all_orders(function, classes, options):
    """Value, JVP and VJP, and the Hessian product in three orders of modes."""

    def f(args):
        return weighted_sum(function(classes, *args, **options))

    def of(args):
        dots = jax.tree.map(jnp.sin, args)

        def along(args):
            return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, jax.grad(f)(args), dots)))

        def slope(args):
            return jax.jvp(f, (args,), (dots,))[1]

        return (
            f(args),
            slope(args),
            jax.grad(f)(args),
            jax.jvp(jax.grad(f), (args,), (dots,))[1],
            jax.grad(slope)(args),
            jax.grad(along)(args),
        )

    return quick_jit(of)


def given(kind, labels, mask=None, rows=N):
    """Labels, or several classes of each row, that exist."""
    classes = labels if kind == "labels" else picks_of(rows, C)
    if mask is None:
        return classes
    there = jnp.take_along_axis(mask, classes.reshape(N, -1), 1).reshape(classes.shape)
    first = jnp.argmax(mask, 1).astype(classes.dtype).reshape(N, *[1] * (classes.ndim - 1))
    return jnp.where(there, classes, jnp.broadcast_to(first, classes.shape))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "options", "rows"),
    [
        ("statistics", {}, N),
        ("statistics with the loss", CAP, 8),
        ("log-probabilities", CAP, 8),
        ("log-probabilities", {}, N),
    ],
)
def test_every_order_in_every_mode(name, options, rows):
    """Blocks of 4 of 8 rows, or of 11: a rest of 3 takes as long to compile again."""
    ours, dense, kind = PAIRS[name]
    args, labels = point(jnp.float64, rows=rows)
    classes = given(kind, labels, rows=rows)
    options = options | {"block_size": 4}
    assert_close(
        all_orders(ours, classes, options)(args),
        all_orders(dense, classes, options)(args),
        tolerance=2e-13,
    )


@pytest.mark.usefixtures("x64")
def test_masked_classes():
    ours, dense, kind = PAIRS["statistics with the loss"]
    args, labels = point(jnp.float64)
    mask = MASK.at[:, 0].set(True)
    classes, options = given(kind, labels, mask), {"where": mask, "block_size": 4}
    assert_close(
        all_orders(ours, classes, options)(args),
        all_orders(dense, classes, options)(args),
        tolerance=2e-13,
    )


@pytest.mark.usefixtures("x64")
def test_target_distributions():
    (f, w, b, _), _ = point(jnp.float64)
    targets = jax.random.uniform(jax.random.key(3), (N, C), jnp.float64)

    def ours(f, w, b, t):
        found = linear_softmax_stats(f, w, t, b, block_size=4)
        return weighted_sum((found.logsumexp, found.log_prob, found.entropy))

    def dense(f, w, b, t):
        log_p = jax.nn.log_softmax(dense_logits(f, w, b))
        s, _, entropy = dense_stats(dense_logits(f, w, b), jnp.zeros(N, int))
        return weighted_sum((s, jnp.sum(t * log_p, -1), entropy))

    def both(f):
        return jax.jit(jax.value_and_grad(f, (0, 1, 2, 3)))(f_, w, b, targets)

    f_ = f
    assert_close(both(ours), both(dense), tolerance=1e-13)


@pytest.mark.usefixtures("x64")
def test_one_class_a_row_without_its_axis():
    (f, w, b, _), labels = point(jnp.float64)
    ours = linear_log_softmax(f, w, labels, b)
    assert ours.shape == labels.shape
    np.testing.assert_allclose(ours, dense_stats(dense_logits(f, w, b), labels)[1], rtol=1e-14)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", PAIRS)
def test_dtypes(name, dtype):
    """Against float64 of the same rounded arrays; gradients have the dtype of their arguments."""
    ours, dense, kind = PAIRS[name]
    args, labels = point(dtype)
    classes = given(kind, labels)

    def both(function, args):
        return jax.jit(
            jax.value_and_grad(lambda a: weighted_sum(function(classes, *a, block_size=4)))
        )(args)

    value, bars = both(ours, args)
    assert value.dtype == jnp.float32
    assert [bar.dtype for bar in bars] == [a.dtype for a in args]
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float64)), args)
        right = jax.device_get(both(dense, wide))
    eps = float(jnp.finfo(dtype).eps)
    assert_close(
        jax.tree.map(lambda x: np.asarray(x, np.float64), (value, bars)), right, tolerance=20 * eps
    )


@pytest.mark.parametrize("name", PAIRS)
def test_no_mode_holds_the_logits(name):
    ours, _, kind = PAIRS[name]
    rows, classes = 96, 50
    args, labels = point(jnp.float32, rows=rows, classes=classes)
    picks = labels if kind == "labels" else picks_of(rows, classes)
    program = all_orders(ours, picks, {"block_size": 16}).lower(args).compile().as_text()
    sizes = [math.prod(map(int, s.split(","))) for s in re.findall(r"\w\[([\d,]+)\]", program)]
    assert 16 * classes in sizes  # a block of logits
    assert max(sizes) < rows * classes


def test_a_row_left_out_is_zero_whatever_its_features():
    (f, w, b, _), labels = point(jnp.float32)
    out = jnp.arange(N) % 3 == 1
    f = jnp.where(out[:, None], jnp.nan, f)
    ignored = jnp.where(out, -1, labels)

    def of(function):
        def total(f, w):
            found = function(f, w)
            return weighted_sum(found), found

        (_, found), bars = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(f, w)
        for value in jax.tree.leaves(found):
            assert np.all(np.asarray(value)[out] == (0 if value.dtype == jnp.float32 else -1))
        assert not np.any(bars[0][out])
        assert np.all(np.isfinite(bars[1]))
        return found

    weights = jnp.where(out, 0.0, 1.0)
    options = {"bias": b, "block_size": 4}
    of(lambda f, w: linear_log_softmax(f, w, ignored, ignore_index=-1, **options))
    of(lambda f, w: linear_log_softmax(f, w, labels, weights=weights, **options))
    of(lambda f, w: linear_softmax_stats(f, w, ignored, ignore_index=-1, **options))
    of(lambda f, w: linear_softmax_stats(f, w, labels, weights=weights, **options))


def test_one_of_several_classes_can_be_ignored():
    (f, w, b, _), _ = point(jnp.float32)
    picks = picks_of(N, C)
    some = jnp.arange(N)[:, None] % 4 > jnp.arange(3)[None, :]
    ignored = jnp.where(some, picks, -100)

    def total(given, ignore_index):
        def f_of(w):
            found, rest = linear_log_softmax(
                f, w, given, b, return_rest=True, ignore_index=ignore_index, block_size=4
            )
            return jnp.sum(jnp.where(some, found, 0.0)), (found, rest)

        return jax.jit(jax.grad(f_of, has_aux=True))(w)

    bar, (found, rest) = total(ignored, -100)
    expected_bar, (expected, _) = total(picks, None)
    assert_close(bar, expected_bar, tolerance=1e-6)
    assert_close(found, jnp.where(some, expected, 0.0), tolerance=1e-6)
    log_p = jax.nn.log_softmax(dense_logits(f, w, b))
    for row in range(N):
        left = sorted(set(range(C)) - set(np.asarray(picks)[row][np.asarray(some)[row]].tolist()))
        right = jax.nn.logsumexp(log_p[row, jnp.array(left)]) if some[row].any() else 0.0
        np.testing.assert_allclose(rest[row], right, rtol=2e-6, atol=1e-7)


def test_what_is_no_class_is_nan_in_its_own_place():
    (f, w, b, _), _ = point(jnp.float32)
    picks = picks_of(N, C).at[2, 1].set(C).at[5, 0].set(-1)

    def of(picks, bar):
        found, back = jax.vjp(lambda f, w: linear_log_softmax(f, w, picks, b, block_size=4), f, w)
        return found, *back(bar)

    found, f_bar, _ = jax.jit(of)(picks, jnp.ones((N, 3)))
    bad = np.zeros((N, 3), bool)
    bad[2, 1] = bad[5, 0] = True
    np.testing.assert_array_equal(np.isnan(found), bad)
    np.testing.assert_array_equal(np.isnan(f_bar), np.repeat(bad.any(1)[:, None], 3, 1))
    _, *bars = jax.jit(of)(picks, jnp.where(bad, 0.0, 1.0))
    assert all(np.all(np.isfinite(bar)) for bar in bars)


def test_one_admissible_class_has_no_entropy_and_no_derivative():
    (f, w, b, _), _ = point(jnp.float32)
    labels = jnp.full(N, 2)
    where = jnp.arange(C) == 2

    def of(f, w, b):
        found = linear_softmax_stats(f, w, labels, b, where=where)
        return jnp.sum(found.entropy), found

    (_, found), bars = jax.jit(jax.value_and_grad(of, (0, 1, 2), has_aux=True))(f, w, b)
    assert not np.any(found.entropy)
    assert not np.any(found.log_prob)
    assert not np.any(found.rank)
    assert all(not np.any(bar) for bar in bars)


@pytest.mark.parametrize("seed", range(5))
def test_entropy_of_confident_rows_keeps_its_last_bits(seed):
    """Against float64 of the same logits: H is as small as 1e-30, where s - Σ p x is 0."""
    keys = jax.random.split(jax.random.key(seed), 2)
    x = jax.random.normal(keys[0], (64, 40))
    x = x.at[:, 7].add(jnp.linspace(0.0, 70.0, 64))

    def of(x):
        unit = jnp.eye(40, dtype=x.dtype)
        return linear_softmax_stats(x, unit, jnp.full(64, 7)).entropy

    ours, bar = jax.jit(lambda x: (of(x), jax.grad(lambda x: jnp.sum(of(x)))(x)))(x)
    wide = np.asarray(x, np.float64)
    e = np.exp(wide - wide.max(1, keepdims=True))
    main = np.argmax(wide, 1)[:, None]
    others = np.sum(np.where(np.arange(40) == main, 0, e), 1, keepdims=True)
    distance = np.sum(e * (wide.max(1, keepdims=True) - wide), 1, keepdims=True) / (1 + others)
    entropy = np.log1p(others) + distance
    np.testing.assert_allclose(ours, entropy[:, 0], rtol=4 * 2.0**-23)
    slope = -e / (1 + others) * (wide - wide.max(1, keepdims=True) + distance)
    error = np.max(np.abs(bar - slope), 1) / np.max(np.abs(slope), 1)
    assert np.max(error) < 16 * 2.0**-23


def test_the_rest_keeps_its_last_bits():
    """Where the picked class has almost nothing, and where it has almost all: 1 - κ is small."""
    x = jax.random.normal(jax.random.key(0), (64, 40)).at[:, 7].add(jnp.linspace(-16.0, 25.0, 64))
    _, ours = linear_log_softmax(x, jnp.eye(40), jnp.full((64, 1), 7), return_rest=True)
    wide = np.asarray(x, np.float64)
    rest = np.sum(np.delete(np.exp(wide), 7, 1), 1)
    right = -np.log1p(np.exp(wide[:, 7]) / rest)
    np.testing.assert_allclose(ours, right, rtol=8 * 2.0**-23)


def test_rank_counts_as_top_k_does():
    """With ties, where the class of the lower number comes first."""
    x = jnp.round(2 * jax.random.normal(jax.random.key(0), (40, 12)))
    labels = jax.random.randint(jax.random.key(1), (40,), 0, 12)
    found = jax.jit(functools.partial(linear_softmax_stats, block_size=8))(x, jnp.eye(12), labels)
    order = np.argsort(-np.asarray(x), 1, kind="stable")
    np.testing.assert_array_equal(found.rank, np.argmax(order == np.asarray(labels)[:, None], 1))
    np.testing.assert_array_equal(found.rank == 0, found.prediction == labels)
    outside = linear_softmax_stats(x, jnp.eye(12), jnp.full(40, 12))
    assert np.all(outside.rank == 12)


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        (
            np.zeros((2, 2), np.int32),
            ValueError,
            "classes must have the shape (3,), or (3, K) with K classes of each row, got (2, 2).",
        ),
        (
            np.zeros(3, np.float32),
            TypeError,
            (
                "classes must be integers of the shape (3,) or (3, K), got float32[3]. The "
                "likeliest classes of a distribution are those of jax.lax.top_k."
            ),
        ),
    ],
)
def test_errors(classes, error, message):
    with pytest.raises(error) as caught:
        linear_log_softmax(np.zeros((3, 2), np.float32), np.zeros((2, 4), np.float32), classes)
    assert str(caught.value) == f"linear_log_softmax: {message}"


@pytest.mark.parametrize(
    ("temperature", "error", "message"),
    [
        (0.0, ValueError, "temperature must be positive and finite, got 0.0."),
        (
            np.ones(3, np.float32),
            ValueError,
            (
                "temperature must be a scalar, got float32[3]. "
                "Give rows of different temperatures to calls of their own."
            ),
        ),
        (
            "warm",
            TypeError,
            "temperature must be a Python number, since it is a static option, got str.",
        ),
    ],
)
def test_temperatures_out_of_range(temperature, error, message):
    f, w, y = np.zeros((3, 2), np.float32), np.zeros((2, 4), np.float32), np.zeros(3, np.int32)
    with pytest.raises(error) as caught:
        linear_softmax_stats(f, w, y, temperature=temperature)
    assert str(caught.value) == f"linear_softmax_stats: {message}"


def test_gradients_of_a_bfloat16_kernel_do_not_suffer_from_many_blocks():
    """Its sum over blocks is one of float32. In bfloat16, as in a scan, 1024 of them lose 3 %."""
    rows, classes = 4096, 64
    keys = jax.random.split(jax.random.key(0), 4)
    f = jax.random.normal(keys[0], (rows, 16), jnp.bfloat16)
    w = jax.random.normal(keys[1], (16, classes), jnp.bfloat16) / 4
    picks = jax.random.randint(keys[2], (rows,), 0, classes)
    advantages = jax.random.normal(keys[3], (rows,)) + 0.5

    def bar(f, w, block_size):
        def gain(w):
            return jnp.sum(advantages * linear_log_softmax(f, w, picks, block_size=block_size))

        return np.asarray(jax.jit(jax.grad(gain))(w), np.float32)

    exact = bar(f.astype(jnp.float32), w.astype(jnp.float32), None)
    for block_size in (rows, rows // 1024):
        error = np.linalg.norm(bar(f, w, block_size) - exact) / np.linalg.norm(exact)
        assert error < 4e-3
