"""Standard errors against the inverse information of one class's differences from another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from jaxsoftmax.training.data import Columns
from jaxsoftmax.training.data.columns import Number
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.model import Classifier
from jaxsoftmax.training.report import uncertainty
from jaxsoftmax.training.solvers import Params

ROWS, WIDTH = 200, 3
RANDOM = np.random.default_rng(0)
MEAN, SCALE = np.array([10.0, -3.0, 0.2]), np.array([5.0, 0.1, 1.0])
X = RANDOM.normal(size=(ROWS, WIDTH)).astype(np.float32)
WEIGHTS = RANDOM.integers(1, 4, ROWS).astype(np.float32)


def model(classes):
    random = np.random.default_rng(classes)
    kernel, bias = random.normal(size=(WIDTH, classes)), random.normal(size=classes)
    columns = tuple(Number(name=f"x{d}", mean=MEAN[d], scale=SCALE[d]) for d in range(WIDTH))
    params = Params(*(jnp.asarray(part, jnp.float32) for part in (kernel, bias)))
    return Classifier(Columns(columns=columns), params, tuple("abcd"[:classes]))


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_without_a_penalty_they_are_those_of_the_inverse_information(classes):
    made = model(classes)
    raw = np.pad(X * SCALE + MEAN, ((0, 0), (0, 1)), constant_values=1)
    p = softmax(X @ np.asarray(made.params.kernel) + np.asarray(made.params.bias), axis=1)
    free = classes - 1  # the first class is the one the others are compared with
    information = np.zeros((free, WIDTH + 1, free, WIDTH + 1))
    for row, mine, weight in zip(raw, p[:, 1:], WEIGHTS, strict=True):
        curvature = np.diag(mine) - np.outer(mine, mine)
        information += weight * np.einsum("ab,i,j->aibj", curvature, row, row)
    size = free * (WIDTH + 1)
    covariance = np.linalg.inv(information.reshape(size, size))
    centred = np.concatenate([np.zeros((1, free)), np.eye(free)]) - 1 / classes
    moved = np.kron(centred, np.eye(WIDTH + 1))
    expected = np.sqrt(np.diag(moved @ covariance @ moved.T)).reshape(classes, WIDTH + 1).T
    found = uncertainty.standard_errors(made, X, WEIGHTS, 0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_with_a_penalty_they_are_of_whites_form(x64):
    made, l2 = model(3), 0.3
    start = np.concatenate([made.params.kernel, made.params.bias[np.newaxis]]).astype(float)

    def loss(theta):
        logits = jnp.asarray(X, jnp.float64) @ theta[:-1] + theta[-1:]
        picked = jax.nn.log_softmax(logits)[:, 0]  # its Hessian is the same for any label
        return -jnp.sum(jnp.asarray(WEIGHTS, jnp.float64) * picked) / float(WEIGHTS.sum())

    size = start.size
    information = np.asarray(jax.hessian(loss)(jnp.asarray(start))).reshape(size, size)
    penalised = information + l2 * np.diag(np.repeat([1.0] * WIDTH + [0.0], 3))
    inverse = np.linalg.pinv(penalised, rcond=1e-10)
    covariance = inverse @ information @ inverse / WEIGHTS.sum()
    expected = np.sqrt(np.diag(covariance)).reshape(WIDTH + 1, 3)[:WIDTH]
    found = uncertainty.standard_errors(made, X, WEIGHTS, l2)[:WIDTH] * SCALE[:, np.newaxis]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_too_many_coefficients_are_refused(monkeypatch):
    monkeypatch.setattr(uncertainty, "MOST", 11)
    with pytest.raises(InputError, match="of 12 coefficients squared; up to 11"):
        uncertainty.standard_errors(model(3), X, WEIGHTS, 0.0)
