"""The loop: against plain NumPy, scikit-learn's optimum, and its own promises."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxsoftmax.training import run
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.errors import InputError, RunFailedError
from jaxsoftmax.training.loop import fit, shuffled

DATA = {
    "source": "builtin",
    "name": "iris",
    "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
}


def configured(*, epochs, optimizer, batch_size=None, l2=0.0, bias=True, seed=0):
    tree = {
        "seed": seed,
        "epochs": epochs,
        "data": DATA | {"batch_size": batch_size},
        "model": {"l2": l2, "bias": bias},
        "optimizer": optimizer,
    }
    return RunConfig.model_validate_json(json.dumps(tree))


def fitted(config):
    _, parts = run.prepare(config)
    model = run.blank(config, parts.train)
    train, validation = model.rows(parts.train), model.rows(parts.validation)
    records = []
    result = fit(config, model.params, train, validation, records.append)
    return result.params, records, train, validation


def numpy_softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def numpy_scores(kernel, bias, rows):
    features, labels = np.asarray(rows.features, np.float64), np.asarray(rows.labels)
    probabilities = numpy_softmax(features @ kernel + bias)
    loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    return loss, (probabilities.argmax(axis=1) == labels).mean()


@pytest.mark.parametrize("bias", [True, False])
def test_stochastic_gradient_descent_step_by_step(bias):
    """Ragged batches (90 = 2 * 32 + 26), L2 and a decaying rate, redone in float64 NumPy."""
    l2, peak, epochs, batch = 0.05, 0.5, 3, 32
    optimizer = {"name": "sgd", "learning_rate": peak, "schedule": {"name": "linear"}}
    config = configured(
        epochs=epochs, optimizer=optimizer, batch_size=batch, l2=l2, bias=bias, seed=5
    )
    params, records, train, validation = fitted(config)

    features, labels = np.asarray(train.features, np.float64), np.asarray(train.labels)
    kernel, offset, step = np.zeros((4, 3)), np.zeros(3), 0
    for epoch in range(1, epochs + 1):
        order = np.asarray(shuffled(5, jnp.int32(epoch), 90, batch)[0]).ravel()[:90]
        for start in range(0, 90, batch):
            rows = order[start : start + batch]
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
    last = records[-1]
    assert last.epoch == epochs
    assert (last.train_loss, last.train_accuracy) == pytest.approx(
        numpy_scores(kernel, offset, train), rel=1e-5
    )
    assert (last.validation_loss, last.validation_accuracy) == pytest.approx(
        numpy_scores(kernel, offset, validation), rel=1e-5
    )


def test_lbfgs_reaches_the_optimum_of_scikit_learn():
    l2 = 1e-3
    config = configured(epochs=120, optimizer={"name": "lbfgs"}, l2=l2)
    params, _, train, _ = fitted(config)
    features, labels = np.asarray(train.features, np.float64), np.asarray(train.labels)
    reference = LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-10, max_iter=10_000)
    reference.fit(features, labels)

    def penalised(kernel, bias):
        return numpy_scores(kernel, bias, train)[0] + l2 / 2 * np.sum(kernel**2)

    best = penalised(reference.coef_.T, reference.intercept_)
    ours = penalised(np.asarray(params.kernel, np.float64), np.asarray(params.bias, np.float64))
    assert ours == pytest.approx(best, rel=1e-6)
    assert np.asarray(params.kernel) == pytest.approx(reference.coef_.T, abs=5e-3)


def test_each_row_counts_once_and_the_order_is_a_function_of_seed_and_epoch():
    order, weights = (np.asarray(a) for a in shuffled(0, jnp.int32(1), 10, 4))
    assert order.shape == weights.shape == (3, 4)
    assert weights.ravel().tolist() == [1.0] * 10 + [0.0] * 2
    assert sorted(order.ravel()[:10]) == list(range(10))
    same = shuffled(0, jnp.int32(1), 10, 4)[0]
    assert np.array_equal(order, same)
    for seed, epoch in ((0, 2), (1, 1)):
        assert not np.array_equal(order, shuffled(seed, jnp.int32(epoch), 10, 4)[0])


def test_standardisation_sees_the_training_part_only():
    config = configured(epochs=1, optimizer={"name": "lbfgs"})
    _, parts = run.prepare(config)
    standardization = run.blank(config, parts.train).standardization
    assert standardization.mean == pytest.approx(parts.train.features.mean(axis=0), rel=1e-5)
    assert standardization.scale == pytest.approx(parts.train.features.std(axis=0), rel=1e-5)


def test_an_epoch_compiles_once(monkeypatch):
    traces = []
    monkeypatch.setattr(
        "jaxsoftmax.training.loop.scores",
        lambda params, rows, scores=run.scores: traces.append(0) or scores(params, rows),
    )
    fitted(configured(epochs=4, optimizer={"name": "sgd", "learning_rate": 0.1}))
    assert len(traces) == 2  # training and validation, each traced once for all epochs


def test_a_loss_that_is_not_finite_stops_the_run():
    seen = []
    config = configured(
        epochs=50, optimizer={"name": "sgd", "learning_rate": 1e38}, batch_size=32, l2=1.0
    )
    _, parts = run.prepare(config)
    model = run.blank(config, parts.train)
    with pytest.raises(RunFailedError) as failure:
        fit(
            config, model.params, model.rows(parts.train), model.rows(parts.validation), seen.append
        )
    assert str(failure.value) == (
        "The loss became inf in epoch 1, step 2 of 3; no model was written. "
        "A smaller optimizer.learning_rate or an optimizer.clip_norm usually helps."
    )
    assert seen == []


def test_a_batch_larger_than_the_training_part_is_refused():
    config = configured(epochs=1, optimizer={"name": "sgd", "learning_rate": 0.1}, batch_size=91)
    with pytest.raises(InputError) as failure:
        fitted(config)
    assert str(failure.value) == (
        "[data] batch_size is 91 but the training part has 90 rows; "
        "leave batch_size out to use all rows in every step"
    )


@pytest.mark.default_modes
def test_training_runs_in_64_bit_mode_too():
    with jax.enable_x64(True):
        params, *_ = fitted(
            configured(epochs=1, optimizer={"name": "adam", "learning_rate": 0.1}, batch_size=32)
        )
    assert params.kernel.dtype == jnp.float32
