"""The path of penalties: the best is found, and then all rows train."""

import json

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import PredefinedSplit

from jaxsoftmax.training import data
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.runs import loop, plan
from jaxsoftmax.training.runs.job import PLACES
from jaxsoftmax.training.runs.state import Record
from jaxsoftmax.training.solvers import Status

pytestmark = pytest.mark.default_modes  # optax promotes types inside its rules


def job(**tables):
    config = RunConfig.model_validate_json(json.dumps({"data": {"name": "iris"}} | tables))
    return loop.prepare(config, data.prepare(config))


def fitted(work, stop=None):
    state = loop.begin(work)
    while not loop.finished(work, state) and len(state.records) != stop:
        state = loop.advance(work, state)
    return state


@pytest.fixture(scope="module")
def folded():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        work = job()
        return work, fitted(work)


def training(work):
    stop = work.dataset.parts.validation.stop
    return work.dataset.features[:stop].astype(np.float64), work.dataset.labels[:stop]


def test_five_folds_score_each_penalty_as_scikit_learn_does(folded):
    work, state = folded
    features, labels = training(work)
    fold = plan.folds(labels, seed=0)
    record = state.records[5]
    losses = []
    for k in range(plan.FOLDS):
        rows = fold != k
        model = LogisticRegression(C=1 / (record.l2 * rows.sum()), tol=1e-8, max_iter=10_000)
        shares = model.fit(features[rows], labels[rows]).predict_proba(features[~rows])
        losses.append(-np.log(shares[np.arange(len(shares)), labels[~rows]]).mean())
    assert record.validation_loss == pytest.approx(np.mean(losses), rel=1e-3)


def test_the_penalty_is_that_of_logistic_regression_cv(folded):
    work, state = folded
    features, labels = training(work)
    on_path = [record for record in state.records if record.stage < len(work.path)]
    best = min(on_path, key=lambda record: record.validation_loss)
    strengths = [1 / (record.l2 * len(labels) * 0.8) for record in on_path]
    reference = LogisticRegressionCV(
        Cs=strengths,
        cv=PredefinedSplit(plan.folds(labels, seed=0)),
        scoring="neg_log_loss",
        max_iter=10_000,
        use_legacy_attributes=False,
        l1_ratios=(0.0,),
    ).fit(features, labels)
    assert float(reference.C_) == pytest.approx(strengths[on_path.index(best)])


def test_the_model_is_the_optimum_on_train_and_validation(folded):
    work, state = folded
    features, labels = training(work)
    l2 = state.records[-1].l2
    assert state.solver.status == Status.CONVERGED
    assert l2 == pytest.approx(min(state.records, key=lambda r: r.validation_loss).l2)
    reference = LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-10, max_iter=10_000)
    reference.fit(features, labels)

    def objective(kernel, bias):
        logits = features @ kernel + bias
        top = logits.max(axis=1)
        losses = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        losses -= logits[np.arange(len(labels)), labels]
        return losses.mean() + l2 / 2 * np.sum(kernel**2)

    ours = objective(*(np.asarray(leaf, np.float64) for leaf in state.best.params))
    best = objective(reference.coef_.T, reference.intercept_)
    assert ours == pytest.approx(best, rel=1e-5)


def test_a_validation_part_that_is_large_chooses_alone(monkeypatch):
    monkeypatch.setattr(plan, "ENOUGH", 10)
    work = job()
    assert work.folds.shape[0] == 1
    weights = np.asarray(work.folds[0])
    assert np.array_equal(weights > 0, np.asarray(work.train) > 0)
    state = fitted(work, stop=4)
    record = state.records[3]
    train, held_out = work.dataset.part("train"), work.dataset.part("validation")
    model = LogisticRegression(C=1 / (record.l2 * len(train.labels)), tol=1e-8, max_iter=10_000)
    shares = model.fit(train.features, train.labels).predict_proba(held_out.features)
    expected = -np.log(shares[np.arange(len(shares)), held_out.labels]).mean()
    assert record.validation_loss == pytest.approx(expected, rel=1e-3)
    assert fitted(work).records[-1].stage == len(work.path)


def test_the_path_ends_when_it_gets_no_better():
    def record(stage, loss):
        return Record(stage, 1, 0.1, 0.0, 0.0, 0.0, 0.0, loss, 0.0)

    path = (8.0, 4.0, 2.0, 1.0, 0.5, 0.25)
    losses = [3.0, 1.0, 2.0, 1.5, 1.2]
    records = [record(stage, loss) for stage, loss in enumerate(losses)]
    assert [plan.next_stage(path, records[:n]) for n in range(6)] == [0, 1, 2, 3, 4, len(path)]
    assert plan.best(path, records).validation_loss == 1.0


def test_classes_can_weigh_the_same():
    work = job(model={"l2": 0.01, "class_weights": "balanced"})
    part = work.dataset.part("train")
    reference = LogisticRegression(
        C=1 / (0.01 * len(part.labels)), class_weight="balanced", tol=1e-10, max_iter=10_000
    )
    stop = work.dataset.parts.train.stop
    weights = np.asarray(work.train)[:stop]
    sums = np.bincount(part.labels, weights)
    assert sums == pytest.approx(np.full(3, sums.mean()), rel=0.05)  # balanced with validation
    reference.fit(part.features, part.labels, sample_weight=None)
    kernel = np.asarray(fitted(work).best.params.kernel)
    assert kernel == pytest.approx(reference.coef_.T, abs=0.02)


def test_rows_at_the_end_of_the_arrays_have_no_weight():
    work = job(data={"name": "breast_cancer"})
    stop = work.dataset.parts.validation.stop
    assert len(work.rows.labels) % PLACES == 0
    assert len(work.rows.labels) > stop
    for weights in (work.rows.weights, work.train, work.validation, *work.folds):
        assert np.all(np.asarray(weights)[stop:] == 0)
