"""The command line, from a config to predictions: files, output and exit codes."""

import csv
import hashlib
import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
from sklearn.datasets import load_iris

from jaxsoftmax.cli import main
from jaxsoftmax.training import data, prediction, trainer
from jaxsoftmax.training.runs import Record

pytestmark = pytest.mark.default_modes  # optax promotes types inside its schedules

CONFIG = """
[data]
source = "builtin"
name = "iris"
[split]
train = 0.6
validation = 0.2
test = 0.2
[solver]
name = "adam"
epochs = 12
batch_size = 32
learning_rate = 0.3
schedule = { name = "cosine" }
"""


def command(*arguments):
    """Runs a command and returns its exit code."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code or 0


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "flowers.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert command("train", config, "--out", folder) == 0
    return folder


def digest(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_train_leaves_a_complete_run(trained):
    assert {path.name for path in trained.iterdir()} == {
        "config.json", "metrics.jsonl", "summary.json", "model.safetensors", "model.json",
        "curves.png", "confusion.png", ".lock",
    }  # fmt: skip
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(1, 13))
    assert set(records[0]) == set(Record._fields)
    assert records[-1]["train_loss"] < 0.2 < records[0]["train_loss"]
    summary = json.loads((trained / "summary.json").read_text())
    assert (summary["rows"], summary["test_rows"]) == (150, 30)
    assert summary["test_accuracy"] >= 0.9


def test_train_says_what_it_does(config, tmp_path, capsys):
    assert command("train", config, "--out", tmp_path / "run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "data    iris: 150 rows, 4 features, 3 classes; 90 train, 30 validation, 30 test",
        "solver  adam, 12 epochs, 32 rows a step, seed 0",
    ]
    score = r"loss \d\.\d{4} accuracy [01]\.\d{4}"
    assert len(lines) == 2 + 12 + 3
    assert all(
        re.fullmatch(rf"epoch {n:2}/12  train {score}  validation {score}", line)
        for n, line in enumerate(lines[2:14], start=1)
    )
    assert re.fullmatch(r"time    \d+\.\d\d s compiling, \d+\.\d\d s training", lines[14])
    assert re.fullmatch(r"test    loss \d\.\d{6} accuracy [01]\.\d{4} on 30 rows", lines[15])
    assert lines[16] == f"saved   {tmp_path / 'run'}"


def test_same_seed_same_bits(config, trained, tmp_path):
    assert command("train", config, "--out", tmp_path / "same") == 0
    assert command("train", config, "--out", tmp_path / "other", "--set", "seed=1") == 0
    assert digest(tmp_path / "same") == digest(trained) != digest(tmp_path / "other")


def test_the_saved_config_makes_the_run_again(trained, tmp_path):
    assert command("train", trained / "config.json", "--out", tmp_path / "again") == 0
    assert digest(tmp_path / "again") == digest(trained)


def test_evaluate_repeats_the_test_scores(trained, capsys):
    summary = json.loads((trained / "summary.json").read_text())
    again = trainer.evaluate(trained)
    assert (again.loss, again.accuracy) == (summary["test_loss"], summary["test_accuracy"])
    assert again.confusion.sum() == again.rows == 30
    capsys.readouterr()
    assert command("evaluate", trained) == 0
    assert capsys.readouterr().out == (
        f"test    loss {again.loss:.6f} accuracy {again.accuracy:.4f} on 30 rows\n"
    )


def test_evaluate_refuses_other_data(trained, tmp_path, monkeypatch, capsys):
    def changed(config):
        return data.prepare(config)._replace(fingerprint="other")

    monkeypatch.setattr(trainer, "prepare", changed)
    assert command("evaluate", trained) == 2
    assert capsys.readouterr().err == (
        f"{trained}: the data are no longer those the model was trained on, "
        f"so its test rows cannot be found again\n"
    )


def test_predict_from_npy_and_csv(trained, tmp_path, capsys):
    features, labels = load_iris(return_X_y=True)
    np.save(tmp_path / "f.npy", features)
    assert command("predict", trained, "--input", tmp_path / "f.npy") == 0
    text = capsys.readouterr().out
    header, *rows = csv.reader(text.splitlines())
    assert header == ["prediction", "p(setosa)", "p(versicolor)", "p(virginica)"]
    probabilities = np.array([row[1:] for row in rows], float)
    assert probabilities.shape == (150, 3)
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-6)
    names = load_iris().target_names
    assert [row[0] for row in rows] == [names[i] for i in probabilities.argmax(axis=1)]
    assert np.mean(probabilities.argmax(axis=1) == labels) > 0.9

    names = load_iris().feature_names
    with (tmp_path / "f.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*reversed(names), "note"])
        writer.writerows([*reversed(row), "x"] for row in features.tolist())
    output = tmp_path / "out.csv"
    assert command("predict", trained, "--input", tmp_path / "f.csv", "--output", output) == 0
    assert output.read_text() == text


def test_predictions_are_the_model_on_standardised_features(trained, tmp_path):
    arrays = safetensors.numpy.load_file(trained / "model.safetensors")
    card = json.loads((trained / "model.json").read_text())
    features = np.array([[5.0, 3.0, 4.0, 1.0]])
    np.save(tmp_path / "f.npy", features)
    columns = card["columns"]["columns"]
    mean, scale = ([column[key] for column in columns] for key in ("mean", "scale"))
    logits = (features - mean) / scale @ arrays["kernel"] + arrays["bias"]
    expected = np.exp(logits) / np.exp(logits).sum()
    row = prediction.predict(trained, tmp_path / "f.npy").splitlines()[1].split(",")
    assert [float(p) for p in row[1:]] == pytest.approx(expected[0].tolist(), rel=1e-5)


def test_a_run_is_not_overwritten_unless_asked(config, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "summary.json").write_text("old")
    (folder / "notes.txt").write_text("mine")
    assert command("train", config, "--out", folder) == 2
    assert capsys.readouterr().err == (
        f"{folder}: already holds a run (summary.json); choose another --out or add --overwrite\n"
    )
    assert (folder / "summary.json").read_text() == "old"
    assert command("train", config, "--out", folder, "--overwrite", "--set", "solver.epochs=1") == 0
    assert json.loads((folder / "summary.json").read_text())["epochs"] == 1
    assert (folder / "notes.txt").read_text() == "mine"


def test_the_default_folder_carries_the_name_of_the_config(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("train", config, "--set", "solver.epochs=1") == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"flowers-\d{8}-\d{6}", folder.name)


def test_config_commands(config, capsys):
    assert command("config", "check", config) == 0
    assert capsys.readouterr().out == f"{config}: valid\n"
    assert command("config", "show", config, "--set", "solver.batch_size=8") == 0
    assert json.loads(capsys.readouterr().out)["solver"]["batch_size"] == 8
    assert command("config", "schema") == 0
    assert "solver" in json.loads(capsys.readouterr().out)["properties"]


def test_exit_codes(config, trained, tmp_path, monkeypatch, capsys):
    assert command("config", "check", config, "--set", "sed=1") == 2
    assert capsys.readouterr().err == "--set sed: unknown key; did you mean 'seed'?\n"
    assert command("trian", config) == 2
    assert 'Did you mean "train"?' in capsys.readouterr().err
    assert command("predict", trained, "--input", tmp_path / "f.parquet") == 2
    assert capsys.readouterr().err == (
        f"{tmp_path / 'f.parquet'}: expected a .npy or .csv file of features\n"
    )
    assert command("evaluate", tmp_path) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path}: holds no finished run (summary.json is not there)\n"
    )
    diverging = ("--set", "solver.name=sgd", "--set", "solver.learning_rate=1e38")
    assert (
        command("train", config, "--out", tmp_path / "bad", *diverging, "--set", "model.l2=1") == 1
    )
    assert "no model was written" in capsys.readouterr().err
    assert not (tmp_path / "bad" / "model.safetensors").exists()

    np.save(tmp_path / "f.npy", np.ones((1, 4)))
    nowhere = tmp_path / "nowhere" / "out.csv"
    assert command("predict", trained, "--input", tmp_path / "f.npy", "--output", nowhere) == 1
    assert "No such file or directory" in capsys.readouterr().err

    def interrupt(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "prepare", interrupt)
    assert command("train", config, "--out", tmp_path / "cut") == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_help_is_quick_and_runs_as_a_module():
    program = (
        "import sys, jaxsoftmax.cli\n"
        "print({'optax', 'sklearn', 'matplotlib', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert done.stdout == "set()\n"
    done = subprocess.run(
        [sys.executable, "-m", "jaxsoftmax", "--help"], capture_output=True, check=True, text=True
    )
    for name in ("train", "evaluate", "predict", "config"):
        assert name in done.stdout


def test_check_accepts_right_rules_and_names_what_is_wrong(tmp_path, capsys):
    assert command("check", "jaxsoftmax:softmax", "2x3") == 0
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import jax\n"
        "f = jax.custom_vjp(lambda x: jax.nn.softmax(x))\n"
        "f.defvjp(lambda x: (f(x),) * 2, lambda s, g: (g * s * (1 - s),))\n"
    )
    assert command("check", f"{wrong}:f", "2x3") == 1
    assert "wrong" in capsys.readouterr().out

    assert command("check", "jaxsoftmax:sofmax", "2x3") == 2
    assert "has no function 'sofmax'" in capsys.readouterr().err


def test_bench_measures_an_operation(capsys):
    options = ("--mode", "forward", "--seconds", "0.01")
    assert command("bench", "softmax", "16x10", *options) == 0
    out = capsys.readouterr().out
    assert "automatic" in out
    assert "custom" in out

    assert command("bench", "sigmoid", "16x10", *options) == 2
