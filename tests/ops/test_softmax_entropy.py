"""The entropy of softmax: right in every mode and at any axis, and to the last bits near 0."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxsoftmax import softmax_entropy
from tests import oracle
from tests.ops.devices import assert_close, mesh_of, placed
from tests.rules import assert_rules


def entropy(x, axis=-1, xp=np):
    log_p = oracle.log_softmax(x, axis, xp=xp)
    return -xp.sum(xp.exp(log_p) * log_p, axis=axis)


RNG = np.random.default_rng(2)
X = RNG.normal(size=(2, 3, 4))


@pytest.mark.parametrize("axis", [-1, 0, (0, 2)])
def test_rules(axis):
    dtypes = ("float32", "bfloat16")
    assert_rules(softmax_entropy, X, oracle=entropy, dtypes=dtypes, vmap=axis == -1, axis=axis)


@pytest.mark.usefixtures("x64")
def test_every_axis_mask_and_order_against_autodiff():
    where = jnp.asarray(RNG.uniform(size=X.shape) < 0.7).at[..., 0].set(True)
    x, dot = jnp.asarray(X), jnp.cos(jnp.asarray(X))

    def textbook(x, axis):
        log_p = jax.nn.log_softmax(jnp.where(where, x, -1e30), axis)
        return -jnp.sum(jnp.exp(log_p) * log_p, axis)

    def orders(f, axis):
        def total(x):
            return jnp.sum(jnp.sin(f(x, axis)))

        def slope(x):
            return jax.jvp(total, (x,), (dot,))[1]

        return jax.jit(
            lambda x: (
                f(x, axis),
                jax.grad(total)(x),
                jax.jvp(jax.grad(total), (x,), (dot,))[1],
                jax.grad(slope)(x),
            )
        )(x)

    for axis in (0, 1, 2, (1, 2), None):
        ours = orders(lambda x, axis: softmax_entropy(x, axis, where), axis)
        assert_close(ours, orders(textbook, axis), rtol=1e-13, atol=1e-13)


def test_the_last_bits_of_confident_rows():
    """Logits of which one is up to 60 above the others, in 60 digits."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 30)).astype(np.float32)
    x[:, 4] += np.linspace(0, 60, 40).astype(np.float32)
    found, bar = jax.jit(
        lambda x: (softmax_entropy(x), jax.grad(lambda x: jnp.sum(softmax_entropy(x)))(x))
    )(x)
    with mpmath.workdps(60):
        for row in range(40):
            z = [mpmath.mpf(float(v)) for v in x[row]]
            s = mpmath.log(sum(map(mpmath.exp, z)))
            entropy = -sum(mpmath.exp(v - s) * (v - s) for v in z)
            np.testing.assert_allclose(found[row], float(entropy), rtol=4 * 2.0**-23)
            slope = np.array([float(-mpmath.exp(v - s) * (v - s + entropy)) for v in z])
            atol = 8 * 2.0**-23 * np.abs(slope).max()
            np.testing.assert_allclose(bar[row], slope, rtol=0, atol=atol)


def test_edges():
    inf = jnp.inf
    x = jnp.array([[1.0, -inf, -inf], [0.0, 0.0, -inf], [-inf, -inf, -inf], [inf, 0.0, 0.0]])
    found = softmax_entropy(x)
    bar = jax.grad(lambda x: jnp.sum(softmax_entropy(x)[:2]))(x)
    assert_close(found[:2], np.array([0.0, np.log(2.0)]))
    assert np.all(np.isnan(found[2:]))
    assert not np.any(bar)
    nothing = softmax_entropy(x, where=jnp.zeros((4, 1), bool), keepdims=True)
    assert nothing.shape == (4, 1)
    assert not np.any(nothing)


def test_classes_on_devices_of_an_explicit_mesh():
    mesh = mesh_of(AxisType.Explicit, model=4)
    x = jax.random.normal(jax.random.key(0), (8, 16))
    there = placed(mesh, P(None, "model"), x)

    def of(x):
        return jax.value_and_grad(lambda x: jnp.sum(jnp.sin(softmax_entropy(x))))(x)

    assert_close(jax.jit(of)(there), jax.jit(of)(x))
