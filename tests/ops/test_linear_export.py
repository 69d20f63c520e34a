"""Exported once for any number of rows: a program whose batch size is a symbol."""

import jax
import jax.numpy as jnp
import pytest
from jax import export

from jaxsoftmax import (
    linear_log_softmax,
    linear_softmax_cross_entropy,
    linear_softmax_kl_divergence,
    linear_top_k,
)
from tests.ops.devices import assert_close

D, C = 3, 7
BLOCK = {"block_size": 4}


def loss(f, w, y, u):
    return linear_softmax_cross_entropy(f, w, y, weights=u, ignore_index=2, **BLOCK)


def plain_loss(f, w, y, u):
    return linear_softmax_cross_entropy(f, w, y, label_smoothing=0.1, z_loss=0.1, **BLOCK)


def kl(f, w, y, u):
    return linear_softmax_kl_divergence(f, w, jnp.sin(f), jnp.cos(w), weights=u, **BLOCK)


def rows(f, w, y, u):
    log_prob, rest = linear_log_softmax(f, w, y[:, None], return_rest=True, **BLOCK)
    top = linear_top_k(f, w, 2, **BLOCK)[0]
    return jnp.sum(u * log_prob[:, 0] * rest) + jnp.sum(top**2)


def with_derivatives(f):
    def of(features, kernel, labels, weights):
        def value(features, kernel):
            return f(features, kernel, labels, weights)

        moving = features, kernel
        dots = jax.tree.map(jnp.sin, moving)
        gradient = jax.grad(value, (0, 1))
        return value(*moving), gradient(*moving), jax.jvp(gradient, moving, dots)[1]

    return jax.jit(of)


@pytest.mark.parametrize("f", [loss, plain_loss, kl, rows])
def test_any_number_of_rows(f):
    (n,) = export.symbolic_shape("n")
    of = with_derivatives(f)
    shapes = ((n, D), jnp.float32), ((D, C), jnp.float32), ((n,), jnp.int32), ((n,), jnp.float32)
    exported = export.export(of)(*(jax.ShapeDtypeStruct(*shape) for shape in shapes))
    for number in (1, 4, 11):
        keys = jax.random.split(jax.random.key(number), 4)
        args = (
            jax.random.normal(keys[0], (number, D)),
            jax.random.normal(keys[1], (D, C)),
            jax.random.randint(keys[2], (number,), 0, C),
            jax.random.uniform(keys[3], (number,)),
        )
        assert_close(exported.call(*args), of(*args), rtol=1e-5, atol=1e-5)
