"""What a config may ask of a solver beyond its steps: l1, early stopping, plateau, bfloat16."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxsoftmax.training import data, load, trainer
from jaxsoftmax.training.config.file import from_tree
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.runs import loop
from jaxsoftmax.training.solvers import Params
from jaxsoftmax.training.solvers.schedules import Horizon

pytestmark = pytest.mark.default_modes

SGD = {"name": "sgd", "epochs": 40, "batch_size": 16, "learning_rate": 0.1}


def config(tmp_path, solver, name="iris", **sections):
    tree = {"data": {"name": name}, "solver": solver, **sections}
    return from_tree(json.loads(json.dumps(tree)), tmp_path / "c.toml")


def finish(config):
    job = loop.prepare(config, data.prepare(config))
    state = loop.begin(job)
    while not loop.finished(job, state):
        state = loop.advance(job, state)
    return state


def test_an_elastic_net_is_that_of_scikit_learn(tmp_path):
    l1, l2 = 0.01, 0.02
    asked = config(
        tmp_path, {"name": "fista", "tolerance": 1e-6}, "wine", model={"l1": l1, "l2": l2}
    )
    state, dataset = finish(asked), data.prepare(asked)
    part = dataset.part("train")
    x, y = part.features.astype(np.float64), part.labels
    theirs = LogisticRegression(
        C=1 / ((l1 + l2) * len(y)),
        l1_ratio=l1 / (l1 + l2),
        solver="saga",
        tol=1e-8,
        max_iter=50_000,
    ).fit(x, y)
    kernel = np.asarray(state.best.params.kernel)
    np.testing.assert_allclose(kernel.T, theirs.coef_, rtol=0, atol=2e-4)
    assert np.array_equal(kernel.T == 0, np.abs(theirs.coef_) < 1e-6)
    assert 0.2 < np.mean(kernel == 0) < 0.8


def test_l1_needs_its_solver(tmp_path):
    with pytest.raises(InputError, match=r'l1 needs \[solver\] name = "fista"'):
        config(tmp_path, {"name": "newton_cg"}, model={"l1": 0.1})


def test_patience_stops_and_keeps_the_best_epoch(tmp_path):
    wild = {**SGD, "learning_rate": 3.0, "epochs": 200}
    asked = config(tmp_path, {**wild, "patience": 4}, model={"l2": 0.0})
    state = finish(asked)
    losses = [record.validation_loss for record in state.records]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 4 < 200
    assert state.best.validation_loss == losses[best]
    shorter = asked.model_copy(
        update={
            "solver": asked.solver.model_copy(update={"epochs": 200, "patience": None}),
        }
    )
    job = loop.prepare(shorter, data.prepare(shorter))
    again = loop.begin(job)
    for _ in range(best + 1):
        again = loop.advance(job, again)
    assert np.array_equal(again.solver.params.kernel, state.best.params.kernel)


def test_a_run_that_stopped_early_says_so(tmp_path):
    asked = config(
        tmp_path, {**SGD, "learning_rate": 3.0, "epochs": 200, "patience": 4}, model={"l2": 0.0}
    )
    (tmp_path / "run").mkdir()
    summary = trainer.train(asked, data.prepare(asked), tmp_path / "run")
    assert summary.status == "stopped_early"
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["validation_loss"] for line in lines]
    model, part = load(tmp_path / "run"), data.prepare(asked).part("validation")
    p = model.probabilities(part.features)[np.arange(len(part.labels)), part.labels]
    assert -np.mean(np.log(p)) == pytest.approx(min(losses), rel=1e-5)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "stopped early: the validation loss fell no more" in page


def test_a_plateau_lowers_the_rate(tmp_path):
    schedule = {"name": "plateau", "factor": 0.5, "patience": 2}
    asked = config(tmp_path, {**SGD, "schedule": schedule}, model={"l2": 0.0})
    solver = asked.solver.solver(Horizon(steps_per_epoch=3, steps=60))
    params = Params(jnp.zeros((1, 2)), jnp.zeros(2))
    gradient, memory, rates = Params(jnp.ones((1, 2)), jnp.zeros(2)), solver.rule.init(params), []
    for _ in range(18):
        updates, memory = solver.rule.update(gradient, memory, params, value=jnp.float32(0.7))
        rates.append(float(-updates.kernel[0, 0]))
    # The first epoch of three steps sets the mark, and two more do not fall below it.
    assert rates[:8] == pytest.approx([0.1] * 8)
    assert rates[8:14] == pytest.approx([0.05] * 6)
    assert rates[14:] == pytest.approx([0.025] * 4)


@pytest.mark.parametrize("solver", [{"name": "newton_cg", "tolerance": 1e-6}, {**SGD}])
def test_features_in_bfloat16_are_only_rounded(tmp_path, solver):
    asked = config(tmp_path, solver, "wine", model={"l2": 1e-2}, columns={"dtype": "bfloat16"})
    job = loop.prepare(asked, data.prepare(asked))
    assert job.rows.features.dtype == jnp.bfloat16
    found = finish(asked).best.params
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.float32)}
    dataset = data.prepare(asked)
    rounded = dataset.features.astype(jnp.bfloat16).astype(np.float32)
    assert not np.array_equal(rounded, dataset.features)
    wide = asked.model_copy(
        update={"columns": asked.columns.model_copy(update={"dtype": "float32"})}
    )
    job = loop.prepare(wide, dataset._replace(features=rounded))
    state = loop.begin(job)
    while not loop.finished(job, state):
        state = loop.advance(job, state)
    np.testing.assert_allclose(found.kernel, state.best.params.kernel, rtol=0, atol=2e-4)
