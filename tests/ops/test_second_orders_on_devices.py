"""Reverse over forward and forward over reverse inside of `shard_map`, as on one device."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType

from jaxsoftmax import (
    log_softmax,
    logsumexp,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    softmax_entropy,
    sparsemax,
)
from jaxsoftmax.ops.devices.classes import Spread
from jaxsoftmax.ops.log_softmax import log_softmax_of
from jaxsoftmax.ops.probabilities import Kept, probabilities
from jaxsoftmax.ops.row.exponentials import exponentials
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.trees import assert_same

X, V = np.random.default_rng(0).normal(size=(2, 4, 40)).astype(np.float32)
Y = np.array([3, 0, 39, 7], np.int32)
T = np.random.default_rng(1).dirichlet(np.ones(40), 4).astype(np.float32)

# Losses of rows, of logits, labels and targets.
OPS: dict[str, Callable[..., jax.Array]] = {
    "softmax": lambda x, y, t: jnp.sum(softmax(x) ** 2, -1),
    "log_softmax": lambda x, y, t: jnp.sum(jnp.sin(log_softmax(x)), -1),
    "logsumexp": lambda x, y, t: logsumexp(x, -1, t) ** 2 + logsumexp(x, -1) ** 2,
    "softmax_entropy": lambda x, y, t: softmax_entropy(x),
    "sparsemax": lambda x, y, t: jnp.sum(sparsemax(x) ** 2, -1),
    "labels": lambda x, y, t: softmax_cross_entropy_with_integer_labels(
        x, y, label_smoothing=0.1, z_loss=0.1
    ),
    "targets": lambda x, y, t: softmax_cross_entropy(x, t, z_loss=0.1),
}


def second_orders(total: Callable[[Any], Any], x: Any, v: Any) -> Any:
    return (
        jax.jvp(jax.grad(total), (x,), (v,))[1],
        jax.grad(lambda x: jax.jvp(total, (x,), (v,))[1])(x),
        jax.grad(lambda x: jnp.sum(jax.grad(total)(x) * v))(x),
    )


def on_devices(f: Callable[..., Any], spec: Any, *args: Any, check_vma: bool = True) -> Any:
    mesh = jax.make_mesh((2,), ("m",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    specs = {"in_specs": (spec,) * len(args), "out_specs": spec, "check_vma": check_vma}
    return quick_jit(jax.shard_map(f, mesh=mesh, **specs))(*args)


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("op", OPS)
def test_rows_over_devices(op: str, *, check_vma: bool) -> None:
    def of(x: Any, v: Any, y: Any, t: Any) -> Any:
        return second_orders(lambda x: jnp.sum(OPS[op](x, y, t)), x, v)

    found = on_devices(of, jax.P("m"), X, V, Y, T, check_vma=check_vma)
    assert_same(found, quick_jit(of)(X, V, Y, T), rtol=1e-5)


def _probabilities(x: jax.Array, classes: Spread) -> jax.Array:
    m = lax.stop_gradient(classes.max(lax.stop_gradient(x)))
    (total,) = classes.sums(exponentials(lax.stop_gradient(x), m))
    return probabilities(Kept(x, m, 1 / total), classes)


SPREAD: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "probabilities": (_probabilities, jax.nn.softmax),
    "log_softmax_of": (lambda x, c: log_softmax_of(x, classes=c)[0], jax.nn.log_softmax),
}


@pytest.mark.parametrize("name", SPREAD)
def test_classes_over_devices(name: str) -> None:
    spread, dense = SPREAD[name]

    def of_shares(x: Any, v: Any) -> Any:
        classes = Spread("m")
        return second_orders(lambda x: lax.psum(jnp.sum(jnp.sin(spread(x, classes))), "m"), x, v)

    expected = quick_jit(lambda x, v: second_orders(lambda x: jnp.sum(jnp.sin(dense(x))), x, v))
    assert_same(on_devices(of_shares, jax.P(None, "m"), X, V), expected(X, V), rtol=5e-5)
