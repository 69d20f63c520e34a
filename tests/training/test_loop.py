"""The loop: against plain NumPy, scikit-learn's optimum, and its own promises."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxsoftmax.training import data
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.data import batches
from jaxsoftmax.training.errors import InputError, RunFailedError
from jaxsoftmax.training.runs import loop
from jaxsoftmax.training.solvers import Status


def configured(*, solver, l2=0.0, bias=True, seed=0):
    tree = {
        "seed": seed,
        "data": {"source": "builtin", "name": "iris"},
        "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
        "model": {"l2": l2, "bias": bias},
        "solver": solver,
    }
    return RunConfig.model_validate_json(json.dumps(tree))


def job(config):
    return loop.prepare(config, data.prepare(config))


def fitted(work, steps=None):
    state = loop.begin(work)
    while not loop.finished(work, state):
        state = loop.advance(work, state, steps)
    return state


def rows_of(work, name):
    part = work.dataset.part(name)
    return part.features.astype(np.float64), part.labels


def numpy_softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def numpy_scores(kernel, bias, rows):
    features, labels = rows
    probabilities = numpy_softmax(features @ kernel + bias)
    loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    return loss, (probabilities.argmax(axis=1) == labels).mean()


pytestmark = pytest.mark.default_modes  # optax promotes types inside its rules


@pytest.mark.parametrize("bias", [True, False])
def test_stochastic_gradient_descent_step_by_step(bias):
    """Ragged batches (90 = 2 * 32 + 26), L2 and a decaying rate, redone in float64 NumPy."""
    l2, peak, epochs, size = 0.05, 0.5, 3, 32
    schedule = {"name": "linear"}
    solver = {"name": "sgd", "epochs": epochs, "batch_size": size, "learning_rate": peak}
    work = job(configured(solver=solver | {"schedule": schedule}, l2=l2, bias=bias, seed=5))
    state = fitted(work)
    params = state.solver.params

    features, labels = rows_of(work, "train")
    kernel, offset, step = np.zeros((4, 3)), np.zeros(3), 0
    for epoch in range(epochs):
        order = np.asarray(batches.order(5, jnp.int32(epoch), 90, 96))[:90]
        for start in range(0, 90, size):
            rows = order[start : start + size]
            error = numpy_softmax(features[rows] @ kernel + offset) - np.eye(3)[labels[rows]]
            rate = peak * (1 - step / 9)
            kernel -= rate * (features[rows].T @ error / len(rows) + l2 * kernel)
            offset -= rate * bias * error.mean(axis=0)
            step += 1

    assert np.asarray(params.kernel) == pytest.approx(kernel, rel=1e-4, abs=1e-6)
    if bias:
        assert np.asarray(params.bias) == pytest.approx(offset, rel=1e-4, abs=1e-6)
    else:
        assert params.bias is None
    last = state.records[-1]
    assert last.epoch == epochs
    assert (last.train_loss, last.train_accuracy) == pytest.approx(
        numpy_scores(kernel, offset, (features, labels)), rel=1e-5
    )
    assert (last.validation_loss, last.validation_accuracy) == pytest.approx(
        numpy_scores(kernel, offset, rows_of(work, "validation")), rel=1e-5
    )


def test_lbfgs_reaches_the_optimum_of_scikit_learn():
    l2 = 1e-3
    work = job(configured(solver={"name": "lbfgs"}, l2=l2))
    state = fitted(work)
    params = state.solver.params
    train = features, labels = rows_of(work, "train")
    reference = LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-10, max_iter=10_000)
    reference.fit(features, labels)

    def penalised(kernel, bias):
        return numpy_scores(kernel, bias, train)[0] + l2 / 2 * np.sum(kernel**2)

    best = penalised(reference.coef_.T, reference.intercept_)
    ours = penalised(np.asarray(params.kernel, np.float64), np.asarray(params.bias, np.float64))
    assert ours == pytest.approx(best, rel=1e-6)
    assert np.asarray(params.kernel) == pytest.approx(reference.coef_.T, abs=5e-3)
    assert state.solver.status == Status.CONVERGED
    assert state.records[-1].gradient_norm <= 1e-5


def test_each_row_counts_once_and_the_order_is_a_function_of_seed_and_epoch():
    order = batches.order(0, jnp.int32(1), 10, 12)
    steps = [batches.batch(order, jnp.int32(step), 4, 10) for step in range(3)]
    rows, weights = (np.concatenate(arrays) for arrays in zip(*steps, strict=True))
    assert weights.tolist() == [1.0] * 10 + [0.0] * 2
    assert sorted(rows[:10]) == list(range(10))
    assert np.array_equal(order, batches.order(0, jnp.int32(1), 10, 12))
    for seed, epoch in ((0, 2), (1, 1)):
        assert not np.array_equal(order, batches.order(seed, jnp.int32(epoch), 10, 12))


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
def test_where_a_run_is_interrupted_changes_no_bit(name):
    table = {"name": name}
    if name == "adam":
        table |= {"epochs": 3, "batch_size": 16, "learning_rate": 0.1}
    work = job(configured(solver=table))
    whole = fitted(work)
    for steps in (1, 4):
        assert equal(fitted(work, steps), whole)


def equal(state, other):
    leaves = zip(jax.tree.leaves(state.solver), jax.tree.leaves(other.solver), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves) and state.records == other.records


def test_a_loss_that_is_not_finite_stops_the_run():
    solver = {"name": "sgd", "epochs": 50, "batch_size": 32, "learning_rate": 1e38}
    with pytest.raises(RunFailedError) as failure:
        fitted(job(configured(solver=solver, l2=1.0)))
    assert str(failure.value) == (
        "The loss or its gradient is no longer finite in epoch 1, step 2 of 3 "
        "(rows 9, 14, 17, 22, 24, 26, 29, 31, … of the source, from 0); no model was written. "
        "A smaller solver.learning_rate or a solver.clip_norm usually helps."
    )


def test_a_batch_larger_than_the_training_part_is_refused():
    solver = {"name": "sgd", "epochs": 1, "batch_size": 91, "learning_rate": 0.1}
    with pytest.raises(InputError) as failure:
        job(configured(solver=solver))
    assert str(failure.value) == (
        "[solver] batch_size is 91 but the training part has 90 rows; "
        "leave batch_size out to use all rows in every step"
    )


def test_training_runs_in_64_bit_mode_too():
    solver = {"name": "adam", "epochs": 1, "batch_size": 32, "learning_rate": 0.1}
    with jax.enable_x64(True):
        params = fitted(job(configured(solver=solver))).solver.params
    assert params.kernel.dtype == jnp.float32
