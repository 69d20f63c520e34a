"""Half types on CPU: products that have a kernel in every layout, and logits that stay narrow."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsoftmax import (
    linear_softmax_cross_entropy,
    log_softmax,
    logsumexp,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)
from jaxsoftmax.ops.linear.product import product as product_of
from jaxsoftmax.ops.row import xla
from tests.ops.devices import mesh_of

RNG = np.random.default_rng(7)

TRANSPOSED = {  # what is given as the transpose of what is differentiated
    "nothing": (lambda f: f, lambda w: w),
    "the kernel": (lambda f: f, jnp.transpose),
    "both": (jnp.transpose, jnp.transpose),
}


@pytest.mark.parametrize("which", TRANSPOSED)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(30, 8, 50), (30, 24, 3), (1, 8, 50), (7, 1, 9)])
def test_transposed_arguments(shape, dtype, which):
    """XLA folds transposes into products, and has no kernel for some that come of it."""
    rows, features, classes = shape
    f = (RNG.integers(-4, 5, (rows, features)) / 4).astype(dtype)
    w = (RNG.integers(-4, 5, (features, classes)) / 4).astype(dtype)
    labels = RNG.integers(0, classes, rows)
    of_f, of_w = TRANSPOSED[which]

    def loss(f, w):
        return linear_softmax_cross_entropy(of_f(f), of_w(w), labels, reduction="sum")

    arrays = jnp.asarray(np.asarray(of_f(f))), jnp.asarray(np.asarray(of_w(w)))
    got = jax.jit(jax.grad(loss, (0, 1)))(*arrays)
    expected = jax.grad(loss, (0, 1))(*(a.astype(jnp.float32) for a in arrays))
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == dtype
        # The cotangent of the logits is rounded to the type once, the result once more.
        scale = rows * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(a.astype(np.float32), b, atol=scale)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("columns", [(3, 200), (5, 7), (1, 40)])
def test_a_product_over_rows_is_the_same_with_its_transpose_written_out(columns, dtype):
    a, b = ((RNG.integers(-8, 9, (12, n)) / 8).astype(dtype) for n in columns)
    product = jax.jit(lambda a, b: product_of(a, b, over=(0, 0), dtype=a.dtype))
    exact = a.astype(np.float64).T @ b.astype(np.float64)  # eighths: float32 holds every sum
    np.testing.assert_array_equal(product(jnp.asarray(a), jnp.asarray(b)), exact)


def test_products_of_rows_that_xla_spreads_gather_nothing():
    """On automatic axes the parts of the gradient are added up, and nothing else moves."""
    mesh = mesh_of(AxisType.Auto, data=4)
    f = jax.device_put(jnp.ones((16, 8), jnp.bfloat16), NamedSharding(mesh, P("data")))
    w = jax.device_put(jnp.ones((8, 32), jnp.bfloat16), NamedSharding(mesh, P()))
    labels = jax.device_put(jnp.zeros(16, jnp.int32), NamedSharding(mesh, P("data")))
    gradient = jax.jit(jax.grad(linear_softmax_cross_entropy, 1)).lower(f, w, labels).compile()
    moved = re.findall(r" (all-\w+|collective-permute|reduce-scatter)\(", gradient.as_text())
    assert set(moved) == {"all-reduce"}


def test_gradients_are_exported():
    """In float32 as they are; for half types, which ask for a layout, with one check less."""
    labels = jnp.zeros(4, jnp.int32)
    gradient = jax.jit(jax.grad(lambda f, w: linear_softmax_cross_entropy(f, w, labels), (0, 1)))
    wide, narrow = (
        (jax.ShapeDtypeStruct((4, 2), dtype), jax.ShapeDtypeStruct((2, 64), dtype))
        for dtype in ("float32", "bfloat16")
    )
    assert len(export.export(gradient)(*wide).out_avals) == 2
    layout = export.DisabledSafetyCheck.custom_call("LayoutConstraint")
    assert len(export.export(gradient, disabled_checks=[layout])(*narrow).out_avals) == 2


N, C = 4096, 256  # so many rows that XLA:CPU makes one kernel of a softmax
X, T = (jnp.asarray(RNG.uniform(size=(N, C)), jnp.bfloat16) for _ in range(2))
Y = jnp.asarray(RNG.integers(0, C, N))

OLD = int(not xla.barrier_holds())
# Scratch memory in arrays of the size of the logits in float32, of the value, and of that with a
# product of the transposed Jacobian. Widened in a kernel of their own, logits are one more.
FUNCTIONS = {
    "softmax": (lambda x, t, y: softmax(x), 0, 0),
    "log_softmax": (lambda x, t, y: log_softmax(x), 1, 2),
    "logsumexp": (lambda x, t, y: logsumexp(x, -1), 0, 1),
    "labels": (lambda x, t, y: softmax_cross_entropy_with_integer_labels(x, y), OLD, 2),
    "distributions": (lambda x, t, y: softmax_cross_entropy(x, t), 2, 3 + OLD),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_logits_are_widened_where_they_are_used(name):
    function, *most = FUNCTIONS[name]
    bar = jax.eval_shape(function, X, T, Y)

    def value_and_product(x, t, y, bar):
        value, back = jax.vjp(lambda x: function(x, t, y), x)
        return value, back(bar)

    programs = jax.jit(function).lower(X, T, Y), jax.jit(value_and_product).lower(X, T, Y, bar)
    for program, limit in zip(programs, most, strict=True):
        scratch = program.compile().memory_analysis().temp_size_in_bytes
        assert scratch <= (limit + 0.2) * 4 * N * C
