"""L1 and elastic net: the optimum of scikit-learn's saga, with the same zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxsoftmax.training.solvers import Problem, Settings, Status, solve
from jaxsoftmax.training.solvers.problem import zeros
from jaxsoftmax.training.solvers.proximal import Proximal

ROWS, WIDTH, CLASSES = 200, 12, 3


def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, WIDTH))
    scores = x[:, :4] @ rng.normal(size=(4, CLASSES)) + rng.gumbel(size=(ROWS, CLASSES))
    return x, scores.argmax(axis=1)


def objective(kernel, bias, x, y, l1, l2):
    logits = x @ kernel + bias
    lse = np.logaddexp.reduce(logits, axis=1)
    loss = np.mean(lse - logits[np.arange(len(y)), y])
    return loss + l1 * np.abs(kernel).sum() + l2 / 2 * np.sum(kernel**2)


@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("scales", [1.0, 10.0 ** np.arange(-3, 3, 0.5)])
def test_the_optimum_of_saga(ratio, scales, x64):
    x, y = rows()
    strength = 0.02
    l1, l2 = strength * ratio, strength * (1 - ratio)
    # Scaled features with scaled penalties are the same problem.
    problem = Problem(
        jnp.asarray(x * scales), jnp.asarray(y), jnp.ones(ROWS), l2 * scales**2, l1 * scales
    )
    settings = Settings(1e-9, 20_000)
    state = jax.jit(solve, static_argnums=0)(Proximal(), problem, zeros(problem, CLASSES), settings)
    assert state.reason is Status.CONVERGED
    ours = np.asarray(state.params.kernel) * np.broadcast_to(scales, WIDTH)[:, None]
    peer = LogisticRegression(
        C=1 / (strength * ROWS), l1_ratio=ratio, solver="saga", tol=1e-12, max_iter=100_000
    ).fit(x, y)
    best = objective(peer.coef_.T, peer.intercept_, x, y, l1, l2)
    value = objective(ours, np.asarray(state.params.bias), x, y, l1, l2)
    assert value == pytest.approx(best, rel=1e-9)
    assert float(state.objective) == pytest.approx(value, rel=1e-12)
    assert ours == pytest.approx(peer.coef_.T, abs=1e-4)
    assert np.array_equal(ours == 0, np.abs(peer.coef_.T) < 1e-6)
    assert 0 < np.sum(ours == 0) < ours.size


def test_a_large_penalty_leaves_the_shares_of_the_classes():
    x, y = rows()
    problem = Problem(
        jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32), jnp.ones(ROWS), 0.0, 10.0
    )
    settings = Settings(1e-6, 500)
    state = jax.jit(solve, static_argnums=0)(Proximal(), problem, zeros(problem, CLASSES), settings)
    assert state.reason is Status.CONVERGED
    assert np.all(np.asarray(state.params.kernel) == 0)
    shares = np.exp(state.params.bias) / np.exp(state.params.bias).sum()
    assert shares == pytest.approx(np.bincount(y) / ROWS, abs=1e-4)


def test_features_that_are_not_finite_are_reported():
    x, y = rows()
    x[3, 2] = np.nan
    problem = Problem(
        jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32), jnp.ones(ROWS), 0.0, 0.1
    )
    state = jax.jit(solve, static_argnums=0)(
        Proximal(), problem, zeros(problem, CLASSES), Settings()
    )
    assert state.reason is Status.DIVERGED
    assert np.all(np.asarray(state.params.kernel) == 0)
