"""Blocks of some of the classes: the same numbers as blocks of all, in every mode."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsoftmax import linear_softmax_cross_entropy
from jaxsoftmax.ops.linear.problem import Sizes

# Rows and classes that no tile divides: (7, 128) of (16, 300).
N, D, C, BUDGET = 16, 3, 300, 4 * 7 * 128
KEYS = jax.random.split(jax.random.key(9), 6)
FEATURES, KERNEL = jax.random.normal(KEYS[0], (N, D)), jax.random.normal(KEYS[1], (D, C))
BIAS, WEIGHTS = jax.random.normal(KEYS[2], (C,)), jax.random.uniform(KEYS[3], (N,)).at[4].set(0)
LABELS = jax.random.randint(KEYS[4], (N,), 0, C)
MASK = jnp.arange(C) % 5 != 1
OPTIONS = {"label_smoothing": 0.1, "z_loss": 0.01, "logit_softcap": 4.0, "ignore_index": 3}

CASES = {
    "labels": {"labels": LABELS},
    "labels, every option": {
        "labels": jnp.where(jnp.arange(N) == 2, 3, LABELS // 5 * 5),
        "class_weights": jnp.linspace(0.5, 2, C),
        "where": MASK,
        "weights": WEIGHTS,
        **OPTIONS,
    },
    "labels, masked, by row": {
        "labels": LABELS,
        "where": jax.random.bernoulli(KEYS[4], 0.5, (N, C)).at[jnp.arange(N), LABELS].set(True),
        "reduction": "none",
        "weights": WEIGHTS,
        "label_smoothing": 0.1,
    },
}


def derivatives(case, second, **size):
    """Value, gradient, slope, and a Hessian product."""

    def loss(features, kernel, bias):
        arrays = dict(CASES[case])
        labels = arrays.pop("labels")
        value = linear_softmax_cross_entropy(features, kernel, labels, bias, **arrays, **size)
        return jnp.sum(jnp.cos(jnp.arange(value.size)) * value.ravel())

    def of(*x):
        v = jax.tree.map(jnp.cos, x)

        def slope(*x):
            return jax.jvp(loss, x, v)[1]

        first = jax.value_and_grad(loss, (0, 1, 2))(*x), slope(*x), loss(*x)
        if not second:
            return first
        return first, jax.jvp(jax.grad(loss, (0, 1, 2)), x, v)[1]

    return jax.jit(of)


POINT = FEATURES, KERNEL, BIAS


@pytest.mark.parametrize(
    ("case", "second"),
    [("labels", True), ("labels, every option", False), ("labels, masked, by row", False)],
)
def test_every_mode_equals_that_of_blocks_of_rows(case, second):
    assert Sizes(None, BUDGET).tile(N, C, np.float32) == (7, 128)
    compiled = derivatives(case, second, memory_budget=BUDGET).lower(*POINT).compile()
    ours = compiled(*POINT)
    expected = derivatives(case, second, block_size=N)(*POINT)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), ours, expected
    )
    sizes = re.findall(r"f32\[([\d,]+)\]", compiled.as_text())
    assert max(math.prod(map(int, size.split(","))) for size in sizes) < 7 * C


@pytest.mark.parametrize("where", [0, C - 1])
def test_edges_and_confident_rows(where):
    """Labels that are no class, NaN, tiles of impossible classes, and losses of 1e-20."""
    labels = LABELS.at[:4].set(jnp.array([-1, C, 2**31 - 1, where]))
    features = FEATURES.at[5].set(jnp.nan)
    # Tiles are of classes 0 to 127, 128 to 255 and the rest. Row 3 is sure of its label.
    kernel = KERNEL.at[:, where].set(0).at[0, where].set(50)
    features = features.at[3].set(jnp.array([1.0, 0.0, 0.0]))
    bias = BIAS.at[:200].set(-jnp.inf) if where else BIAS.at[100:].set(-jnp.inf)

    def losses(features, kernel, **size):
        return linear_softmax_cross_entropy(
            features, kernel, labels, bias, reduction="none", **size
        )

    @jax.jit
    def both(features, kernel):
        sizes = {"memory_budget": BUDGET}, {"block_size": N}
        found = [jax.vjp(lambda *a, s=s: losses(*a, **s), features, kernel) for s in sizes]
        bar = jnp.where(jnp.isin(jnp.arange(N), jnp.array([0, 1, 2, 5])), 0.0, 1.0)
        return [(value, back(jnp.ones(N))[0], back(bar)[1]) for value, back in found]

    tiles, rows = both(features, kernel)
    poisoned = np.isin(np.arange(N), [0, 1, 2, 5])
    np.testing.assert_array_equal(np.isnan(tiles[0]), poisoned)
    np.testing.assert_array_equal(np.isnan(tiles[1]).all(1), poisoned)
    assert 0 < tiles[0][3] < 1e-18
    np.testing.assert_allclose(tiles[0], rows[0], rtol=1e-5)
    np.testing.assert_allclose(tiles[1][3], rows[1][3], rtol=1e-5)
    np.testing.assert_allclose(tiles[1], rows[1], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(tiles[2], rows[2], rtol=1e-5, atol=1e-6)


def test_tiles_of_rows_on_several_devices():
    """Each of two devices has 8 rows and all classes."""

    def loss(features, kernel):
        return linear_softmax_cross_entropy(
            features, kernel, LABELS, label_smoothing=0.1, memory_budget=BUDGET
        )

    @jax.jit
    def derivatives(*x):
        return jax.value_and_grad(loss, (0, 1))(*x)

    mesh = jax.make_mesh(
        (2,), ("data",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:2]
    )
    rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    ours = derivatives(jax.device_put(FEATURES, rows), jax.device_put(KERNEL, whole))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6),
        jax.device_get(ours),
        jax.device_get(derivatives(FEATURES, KERNEL)),
    )
