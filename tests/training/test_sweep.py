"""A sweep: each run is the run that `train` makes alone, and the best one is chosen fairly."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxsoftmax.training import data
from jaxsoftmax.training.config.file import load_config, load_sweep
from jaxsoftmax.training.config.keys import SweepConfig
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.report import sweeps
from jaxsoftmax.training.runs import loop
from jaxsoftmax.training.sweep import Point, program, sweep, train
from jaxsoftmax.training.sweep.train import Outcome, training_rows
from tests.commands import command

pytestmark = pytest.mark.default_modes

ADAM = """
[data]
name = "iris"
[model]
l2 = 1e-3
[solver]
name = "adam"
epochs = 5
batch_size = 16
learning_rate = 0.05
schedule = { name = "cosine" }
"""
NEWTON = '[data]\nname = "iris"\n[model]\nl2 = 1e-3\n[solver]\nname = "newton_cg"\n'


@pytest.fixture
def config(tmp_path):
    def write(text):
        (tmp_path / "c.toml").write_text(text)
        return tmp_path / "c.toml"

    return write


def alone(config):
    """The last record of a run."""
    job = loop.prepare(config, data.prepare(config))
    state = loop.begin(job)
    while not loop.finished(job, state):
        state = loop.advance(job, state)
    return state.records[-1]


RULES = [
    'name = "sgd"',
    'name = "adamw"\nclip_norm = 0.1',
    'name = "lamb"\nweight_decay = 0.1',
    'name = "rmsprop"\nmomentum = 0.9',
    'name = "muon"',
]


@pytest.mark.once
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_proportional_to_its_rate(config, rule):
    path = config(ADAM.replace('name = "adam"', rule))
    base, grid = load_sweep(path, grid=["learning_rate=0.003,0.1"])
    outcome = sweep(base, grid).outcomes[1]
    record = alone(outcome.point.config(base))
    assert outcome.train_loss == pytest.approx(record.train_loss, rel=2e-5)
    assert outcome.validation_loss == pytest.approx(record.validation_loss, rel=2e-5)


def test_every_run_is_what_it_would_be_alone(config):
    path = config(ADAM)
    axes = ["learning_rate=0.01,0.1", "l2=0.0,0.1", "class_weights=none,balanced"]
    base, grid = load_sweep(path, ["seed=3"], axes)
    found = sweep(base, grid)
    assert len(found.outcomes) == len({outcome.point for outcome in found.outcomes}) == 8
    for outcome in found.outcomes[1::3]:  # every value of each axis
        record = alone(outcome.point.config(base))
        for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
            assert getattr(outcome, name) == pytest.approx(getattr(record, name), rel=2e-5)
        assert outcome.iterations == 5 * 7


def test_seeds_divide_what_does_not_test(config):
    base, grid = load_sweep(config(NEWTON), grid=["seed=0,1,2", "l2=1e-3,1e-1"])
    dataset = data.prepare(base)
    stop = dataset.parts.validation.stop
    found = {outcome.point: outcome for outcome in sweep(base, grid).outcomes}
    own = training_rows(base, dataset, 0)
    assert np.array_equal(own, np.arange(dataset.parts.train.stop))
    for seed in (1, 2):
        rows = training_rows(base, dataset, seed)
        assert len(set(rows.tolist())) == len(own)
        assert rows.max() < stop
        assert not np.array_equal(np.sort(rows), own)
        assert np.all(np.diff(dataset.rows[rows]) > 0)
        counts = [np.bincount(dataset.labels[chosen]) for chosen in (rows, own)]
        assert np.array_equal(*counts)
        rest = np.setdiff1d(np.arange(stop), rows)
        x, y = dataset.features.astype(np.float64), dataset.labels
        for l2 in (1e-3, 1e-1):
            theirs = LogisticRegression(C=1 / (l2 * len(rows)), tol=1e-8, max_iter=10_000)
            theirs.fit(x[rows], y[rows])
            outcome = found[Point(None, seed, None, l2, None)]
            for part, loss in ((rows, outcome.train_loss), (rest, outcome.validation_loss)):
                p = theirs.predict_proba(x[part])[np.arange(len(part)), y[part]]
                assert loss == pytest.approx(-np.mean(np.log(p)), rel=1e-3)
            assert outcome.validation_accuracy == pytest.approx(theirs.score(x[rest], y[rest]))
            assert outcome.status == "converged"


def test_groups_and_columns_stay_who_trains(config):
    base = load_config(config(NEWTON))
    split = base.split.model_copy(update={"column": "part"})
    dataset = data.prepare(base)
    kept = training_rows(base.model_copy(update={"split": split}), dataset, 5)
    assert np.array_equal(kept, np.arange(dataset.parts.train.stop))


@pytest.fixture
def layers(tmp_path):
    """Two feature files of the same rows, of which the wider one is the better."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200)
    good = np.eye(3)[labels] + 0.3 * random.normal(size=(200, 3))
    np.save(tmp_path / "good.npy", np.pad(good, [(0, 0), (0, 2)], mode="edge").astype(np.float32))
    np.save(tmp_path / "bad.npy", random.normal(size=(200, 3)).astype(np.float32))
    np.save(tmp_path / "y.npy", labels)
    text = '[data]\npath = "bad.npy"\nlabels_path = "y.npy"\n[model]\nl2 = 1e-2\n'
    (tmp_path / "layers.toml").write_text(text + '[sweep]\npath = ["bad.npy", "good.npy"]\n')
    return tmp_path


@pytest.mark.once
def test_the_best_run_is_a_run(layers, capsys):
    out = layers / "best"
    assert command("sweep", layers / "layers.toml", "--grid", "l2=1e-3,1", "--out", out) == 0
    told = capsys.readouterr().out
    assert "good.npy" in told.splitlines()[3]
    with (out / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["l2"] for row in rows] == ["0.001", "1.0"] * 2
    assert set(rows[0]) == set(Outcome._fields)
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    config = json.loads((out / "config.json").read_text())
    assert config["data"]["path"] == str(layers / "good.npy")
    best = min(rows, key=lambda row: float(row["validation_loss"]))
    assert config["model"]["l2"] == float(best["l2"])
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["validation_loss"] == pytest.approx(float(best["validation_loss"]), rel=1e-4)
    assert command("evaluate", out) == 0


def test_files_of_other_rows_are_refused(tmp_path):
    rows = [f"{i % 7},{'ab'[i % 2]}" for i in range(40)]
    for name, lines in (("one", rows), ("two", rows[1:] + rows[:1])):
        (tmp_path / f"{name}.csv").write_text("x,kind\n" + "\n".join(lines) + "\n")
    text = '[data]\npath = "one.csv"\nlabel = "kind"\n[model]\nl2 = 1.0\n'
    (tmp_path / "c.toml").write_text(text + '[sweep]\npath = ["one.csv", "two.csv"]\n')
    with pytest.raises(InputError, match=r"two\.csv has not the same rows as .*one\.csv"):
        sweep(*load_sweep(tmp_path / "c.toml"))


def outcome(l2, seed, loss, accuracy, status="converged"):
    return Outcome(None, seed, None, l2, None, 0.0, 0.0, loss, accuracy, 0.0, 1, status)


def test_the_best_is_best_on_average_and_has_not_diverged():
    runs = [
        outcome(1.0, 0, 0.1, 0.9), outcome(1.0, 1, 0.9, 0.5),
        outcome(2.0, 0, 0.3, 0.6), outcome(2.0, 1, 0.3, 0.6),
        outcome(3.0, 0, 0.0, 1.0, "diverged"), outcome(3.0, 1, 0.0, 1.0),
        outcome(4.0, 0, float("nan"), 0.0), outcome(4.0, 1, 0.0, 0.0),
    ]  # fmt: skip
    assert train.choose(runs, "validation_loss") is runs[2]
    assert train.choose(runs, "validation_accuracy") is runs[0]


def test_the_table_tells_means_over_seeds():
    runs = (outcome(1.0, 0, 0.25, 0.9), outcome(1.0, 1, 0.75, 0.5), outcome(2.0, 0, 0.125, 0.6))
    told = sweeps.lines(train.Sweep(runs, runs[2], None), "validation_loss").splitlines()
    assert told[0].split() == ["l2", "validation_loss", "status"]
    assert told[1].split()[:2] == ["2", "0.1250"]
    assert told[2].split("  ")[1].strip() == "0.5000 (0.2500 to 0.7500)"


def test_the_picture_has_a_line_for_each_setting():
    runs = [
        Outcome(path, seed, None, 0.1, rate, 0.0, 0.0, rate + seed, 0.5, 0.0, 1, "converged")
        for path in ("a", "b")
        for seed in (0, 1)
        for rate in (0.01, 0.1, 1.0)
    ]
    drawn = sweeps.picture(train.Sweep(tuple(runs), runs[0], None), "validation_loss")
    (axes,) = drawn.axes
    curves = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert len(curves) == 2
    assert list(curves[0].get_ydata()) == pytest.approx([0.51, 0.6, 1.5])
    assert axes.get_xscale() == "log"


def test_one_program_trains_the_grid(config):
    base, grid = load_sweep(config(NEWTON), grid=["seed=0,1", "l2=1e-3,1e-2,1e-1"])
    jax.clear_caches()
    sweep(base, grid)
    assert program.converge._cache_size() == 1
    assert program.scores._cache_size() == 1


def test_side_by_side_is_the_same_as_one_by_one(config, monkeypatch):
    base, grid = load_sweep(config(NEWTON), grid=["l2=1e-3,1e-2,1e-1"])
    whole = sweep(base, grid).outcomes
    monkeypatch.setattr(program, "at_once", lambda *sizes: 2)
    parts = sweep(base, grid).outcomes
    for a, b in zip(whole, parts, strict=True):
        assert a.point == b.point
        assert a.validation_loss == pytest.approx(b.validation_loss, rel=1e-4)


def test_configs_with_a_sweep(config):
    path = config(NEWTON + "[sweep]\nl2 = [0.1]\n")
    with pytest.raises(InputError, match=r"has a \[sweep\]; run it with: jaxsoftmax sweep"):
        load_config(path)
    base, grid = load_sweep(path, grid=["seed=1,2", "by=validation_accuracy"])
    assert base == load_config(config(NEWTON))
    assert grid == SweepConfig(l2=(0.1,), seed=(1, 2), by="validation_accuracy")
    for wrong in ("l3=1", "l2", "l2=-1", "seed=a"):
        with pytest.raises(InputError):
            load_sweep(config(NEWTON), grid=[wrong])
    with pytest.raises(InputError, match="newton_cg has none"):
        sweep(base, SweepConfig(learning_rate=(0.1,)))


def test_an_open_penalty_is_all_that_would_be_tried(config):
    base, grid = load_sweep(config(NEWTON.replace("1e-3", '"auto"')))
    found = sweep(base, grid)
    assert len(found.outcomes) == 15
    assert found.config.model.l2 == found.best.l2
    assert jnp.isfinite(found.best.validation_loss)
