"""Half types on CPU: products that have a kernel in every layout, and logits that stay narrow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax import (
    linear_softmax_cross_entropy,
    log_softmax,
    logsumexp,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)
from jaxsoftmax.ops import _numerics as numerics
from jaxsoftmax.ops import _product

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
    product = jax.jit(lambda a, b: _product.product(a, b, over=(0, 0), dtype=a.dtype))
    exact = a.astype(np.float64).T @ b.astype(np.float64)  # eighths: float32 holds every sum
    np.testing.assert_array_equal(product(jnp.asarray(a), jnp.asarray(b)), exact)


N, C = 256, 1024
X = jnp.asarray(RNG.normal(size=(N, C)), jnp.bfloat16)
Y = jnp.asarray(RNG.integers(0, C, N))
T = jnp.full((N, C), 1 / C, jnp.bfloat16)

# Scratch memory in arrays of the size of the logits in float32, of the value, and with a product of
# the Jacobian. One more each, or two, where the logits are widened in a kernel of its own.
FUNCTIONS = {
    "softmax": (softmax, 2, 2),
    "log_softmax": (log_softmax, 1, 2),
    "logsumexp": (lambda x: logsumexp(x, -1), 0, 1),
    "labels": (
        lambda x: softmax_cross_entropy_with_integer_labels(x, Y),
        int(not numerics.is_new()),
        1,
    ),
    "distributions": (lambda x: softmax_cross_entropy(x, T), 2, 3),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_logits_are_widened_where_they_are_used(name):
    function, *most = FUNCTIONS[name]

    def value_and_product(x):
        value, back = jax.vjp(function, x)
        return value, back(jnp.ones_like(value))

    for of, limit in zip((function, value_and_product), most, strict=True):
        scratch = jax.jit(of).lower(X).compile().memory_analysis().temp_size_in_bytes
        assert scratch <= (limit + 0.1) * 4 * N * C
