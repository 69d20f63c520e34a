"""What rows tell, of blocks of some of the classes: the same as of blocks of all of them."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax import (
    linear_log_softmax,
    linear_softmax_cross_entropy,
    linear_softmax_row_loss,
    linear_softmax_stats,
)
from jaxsoftmax.ops.linear.problem import Sizes
from jaxsoftmax.testing.rules.compile import jit as quick_jit

# Tiles are of 7 rows, and of classes 0 to 127, 128 to 255 and the rest.
N, D, C, BUDGET = 9, 3, 300, 4 * 7 * 128
POISONED = np.isin(np.arange(N), [2, 3, 5])


def problem():
    """Classes 10 and 200 are the same; all of the second tile but 200 are impossible."""
    random = np.random.default_rng(3)
    features = random.normal(size=(N, D)).astype(np.float32)
    kernel = (3 * random.normal(size=(D, C))).astype(np.float32)
    bias = random.normal(size=C).astype(np.float32)
    bias[128:256] = -np.inf
    kernel[:, 200], bias[200] = kernel[:, 10], bias[10]
    labels = random.integers(0, 128, N)
    labels[:5] = 200, 10, C, -2, 140  # equals, no classes, an impossible one
    features[5] = np.nan
    # Row 6 is sure of its label, 7, which comes first; row 7 of one that comes last.
    kernel[:, [7, 290]], features[6], features[7] = 0, [1, 0, 0], [0, 1, 0]
    kernel[0, 7], kernel[1, 290], labels[6], labels[7] = 40, 40, 7, 290
    weights = np.linspace(0.5, 2, N, dtype=np.float32)
    weights[8] = 0
    return (features, kernel, bias), labels.astype(np.int32), weights


def token_loss(stats, arrays):
    return arrays * jnp.exp(stats.log_prob) - stats.entropy + jnp.sin(stats.logsumexp)


@functools.cache
def given():
    arrays, labels, weights = problem()
    several = np.stack([labels, labels * 7 % C, labels * 7 % C], 1)
    shares = np.linspace(0.5, 1, 3 * N, dtype=np.float32).reshape(N, 3)
    return arrays, labels, weights, several, shares


def stats(f, w, b, **size):
    _, labels, weights, *_ = given()
    return linear_softmax_stats(f, w, labels, b, weights=weights, ignore_index=-2, **size)


def log_probs(f, w, b, **size):
    _, _, weights, several, _ = given()
    return linear_log_softmax(f, w, several, b, weights=weights, ignore_index=-2, **size)


def sparse(f, w, b, **size):
    _, _, weights, several, shares = given()
    how = {"weights": weights, "class_weights": jnp.linspace(1, 2, C), "logit_softcap": 50.0}
    b = jnp.where(jnp.isinf(b), -9.0, b)
    return linear_softmax_cross_entropy(
        f, w, several, b, label_weights=shares, reduction="none", **how, **size
    )


def row_loss(f, w, b, **size):
    _, labels, weights, *_ = given()
    return linear_softmax_row_loss(
        f,
        w,
        labels,
        b,
        loss=token_loss,
        arrays=weights,
        where=jnp.arange(C) % 5 != 1,
        temperature=2.0,
        reduction="none",
        **size,
    )


def derivatives(function, **size):
    """What is told, with NaN where it should be; and a gradient that asks nothing of such rows."""

    def smooth(*arrays):
        told = function(*arrays, **size)
        leaves = [x for x in jax.tree.leaves(told) if jnp.issubdtype(x.dtype, jnp.floating)]
        return [x.reshape(N, -1) for x in leaves], told

    def of(*arrays):
        values, back, told = jax.vjp(smooth, *arrays, has_aux=True)
        bars = []
        for i, x in enumerate(values):
            bar = jnp.cos(jnp.arange(x.size, dtype=x.dtype) + i).reshape(x.shape)
            bars.append(jnp.where(POISONED[:, None] | jnp.isinf(x), 0, bar))
        return told, back(bars)

    return quick_jit(of)


@pytest.mark.parametrize("function", [stats, log_probs, sparse, row_loss])
def test_tiles_equal_blocks_of_rows(function):
    assert Sizes(None, BUDGET).tile(N, C, np.float32) == (7, 128)
    arrays = given()[0]
    compiled = derivatives(function, memory_budget=BUDGET).lower(*arrays).compile()
    told, bars = compiled(*arrays)
    expected, expected_bars = derivatives(function, block_size=N)(*arrays)
    close = functools.partial(np.testing.assert_allclose, rtol=2e-5)
    jax.tree.map(close, told, expected)
    jax.tree.map(functools.partial(close, atol=1e-4), bars, expected_bars)
    np.testing.assert_allclose(bars[0][6:8], expected_bars[0][6:8], rtol=1e-3)  # of 1e-16, as sums
    assert np.isnan(jax.tree.leaves(told)[0][POISONED]).any()
    sizes = re.findall(r"f32\[([\d,]+)\]", compiled.as_text())
    assert max(math.prod(map(int, size.split(","))) for size in sizes) < 7 * C
