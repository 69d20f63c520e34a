"""Sparse rows: what training on them gives, and that they are dense only some at a time."""

import json

import numpy as np
import pytest
from scipy import sparse as scipy_sparse
from sklearn.datasets import dump_svmlight_file

from jaxsoftmax.training import data, sparse
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.config.keys import SweepConfig
from jaxsoftmax.training.evaluation import evaluate_file
from jaxsoftmax.training.model import Classifier, load
from jaxsoftmax.training.runs import loop, programs
from jaxsoftmax.training.solvers.problem import zeros
from jaxsoftmax.training.sparse import SparseRows
from jaxsoftmax.training.sweep import sweep
from jaxsoftmax.training.trainer import train

pytestmark = [pytest.mark.default_modes, pytest.mark.once]

ROWS, WIDTH = 300, 400
NEWTON = {"name": "newton_cg"}
ADAM = {"name": "adam", "epochs": 2, "batch_size": 50, "learning_rate": 0.1}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    random = np.random.default_rng(0)
    dense = random.normal(size=(ROWS, WIDTH)).round(4) * (random.random((ROWS, WIDTH)) < 0.02)
    dense[7] = 0
    rows = scipy_sparse.csr_matrix(dense)
    found = tmp_path_factory.mktemp("sparse") / "rows.svm"
    labels = np.argmax(rows @ random.normal(size=(WIDTH, 3)), axis=1)
    dump_svmlight_file(rows, labels, str(found), zero_based=False)
    return found


def config(path, memory=1e-6, **more):
    tree = {"data": {"path": str(path), "memory": memory, "cache": str(path.parent)}} | more
    return RunConfig.model_validate_json(json.dumps(tree))


@pytest.fixture
def most(monkeypatch):
    """The most rows that were dense at a time."""
    seen = [0]
    dense = SparseRows.dense

    def watched(rows):
        seen.append(len(rows) if len(rows.shape) == 2 else 1)
        return dense(rows)

    monkeypatch.setattr(sparse, "NUMBERS", 64 * WIDTH)
    monkeypatch.setattr(SparseRows, "dense", watched)
    return seen


@pytest.mark.parametrize("standardize", ["feature", "none"])
def test_the_same_numbers(path, standardize):
    of_columns = {"columns": {"standardize": standardize}}
    found = data.prepare(config(path, **of_columns))
    expected = data.prepare(config(path, 1, **of_columns))
    assert isinstance(found.features, SparseRows)
    assert isinstance(expected.features, np.ndarray)
    assert np.array_equal(np.asarray(found.features), expected.features)
    assert found.features.nbytes < expected.features.nbytes / 5
    assert found.fingerprint == expected.fingerprint


def test_what_is_not_sparse_is_kept_dense(path):
    lengths = {"columns": {"unit_length": True}}
    found, expected = (data.prepare(config(path, memory, **lengths)) for memory in (1e-6, 1))
    assert isinstance(found.features, np.memmap)
    assert np.array_equal(found.features, expected.features)


@pytest.mark.parametrize("solver", [NEWTON, ADAM, {"name": "lbfgs", "max_iterations": 5}], ids=str)
def test_training_is_that_of_dense_rows(path, solver, most):
    curves = []
    for memory in (1e-6, 1):
        most.clear()
        chosen = config(path, memory, solver=solver, model={"l2": 1e-2})
        job = loop.prepare(chosen, data.prepare(chosen))
        state = loop.begin(job)
        while not loop.finished(job, state):
            state = loop.advance(job, state)
        curves.append([(r.train_loss, r.validation_loss, r.train_accuracy) for r in state.records])
        assert 0 < max(most) <= 64 if memory < 1 else not most
    found, expected = map(np.array, curves)
    if solver is NEWTON:  # another preconditioner leads to the same optimum
        found, expected = found[-1], expected[-1]
    assert found == pytest.approx(expected, rel=1e-4)


def test_on_a_mesh_each_device_makes_its_own_rows_dense(path, most):
    solver = ADAM | {"epochs": 1}
    spread = config(path, solver=solver, model={"l2": 1e-2}, mesh={"data": 4})
    alone = config(path, 1, solver=solver, model={"l2": 1e-2})
    records = []
    for chosen in (alone, spread):
        job = loop.prepare(chosen, data.prepare(chosen))
        records.append(loop.advance(job, loop.begin(job)).records[-1])
    assert isinstance(job.rows.features, SparseRows)
    for name in ("train_loss", "validation_loss"):
        found, expected = (getattr(record, name) for record in reversed(records))
        assert found == pytest.approx(expected, rel=1e-5)
    with job.devices.context():
        params = job.devices.place(zeros(job.rows, 3))
        text = programs.scores.lower(params, job.rows).compile().as_text()
    assert f"f32[64,{WIDTH}]" in text
    assert f"f32[256,{WIDTH}]" not in text  # the rows of all devices


def test_a_sweep_keeps_rows_sparse(path, most):
    grid = SweepConfig(l2=(1e-2, 1e-1))
    found, expected = (
        sweep(config(path, memory, solver=ADAM, model={"l2": 0.1}), grid).outcomes
        for memory in (1e-6, 1)
    )
    assert 0 < max(most) <= 64
    for ours, dense in zip(found, expected, strict=True):
        assert ours.validation_loss == pytest.approx(dense.validation_loss, rel=1e-4)


def test_a_whole_run(path, tmp_path, most, monkeypatch):
    chosen = config(path, solver=NEWTON, model={"l2": 1e-2})
    (tmp_path / "run").mkdir()
    summary = train(chosen, data.prepare(chosen), tmp_path / "run")
    assert summary.status == "converged"
    assert (tmp_path / "run" / "report.html").exists()
    assert max(most) <= ROWS  # of the test part, and of the page
    scored = []
    blocks = Classifier.blocks

    def watched(model, features):
        scored.append(len(features))
        return blocks(model, features)

    monkeypatch.setattr(Classifier, "blocks", watched)
    found = evaluate_file(tmp_path / "run", path)
    assert max(scored) <= 64 < sum(scored) == ROWS == found.scores.rows
    features = np.asarray(data.prepare(chosen).features)
    numbers = load(tmp_path / "run").probabilities(features).argmax(axis=1)
    assert found.scores.accuracy == np.mean(numbers == data.prepare(chosen).labels)
