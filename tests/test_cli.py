"""The command line, from a config to predictions: files, output and exit codes."""

import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
from sklearn.datasets import load_iris

from jaxsoftmax import kernels
from jaxsoftmax.training import data, evaluation, load
from jaxsoftmax.training.runs import Record
from jaxsoftmax.training.runs import folder as run_folder
from tests.commands import command

pytestmark = pytest.mark.default_modes  # optax promotes types inside its schedules

CONFIG = """
[data]
name = "iris"
[model]
l2 = 0.0
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
        "curves.png", "confusion.png", "scores.json", "confusion.csv",
        "report.html", "MODEL_CARD.md", "SHA256SUMS", ".lock",
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
    assert lines[:6] == [
        "data    iris: 150 rows, 4 features, label 'class'",
        "        numbers  sepal length (cm), sepal width (cm), petal length (cm), petal width (cm)",
        "        classes  3: setosa 50, versicolor 50, virginica 50",
        (
            "        baseline always 'setosa': accuracy 0.3333; "
            "class frequencies: log-loss 1.0986 nats"
        ),
        "        parts    90 train, 30 validation, 30 test",
        "solver  adam, 12 epochs, 32 rows a step, l2 0, seed 0",
    ]
    score = r"loss \d\.\d{4} accuracy [01]\.\d{4}"
    assert all(
        re.fullmatch(rf"epoch {n:2}/12  train {score}  validation {score}", line)
        for n, line in enumerate(lines[6:18], start=1)
    )
    assert re.fullmatch(r"time    \d+\.\d\d s compiling, \d+\.\d\d s training", lines[18])
    assert lines[19].startswith("solver  36 steps, gradient ")
    assert re.fullmatch(
        r"test    accuracy [01]\.\d{4} \([01]\.\d{4} to [01]\.\d{4}\), loss \d\.\d{6}, "
        r"balanced accuracy [01]\.\d{4} on 30 rows",
        lines[20],
    )
    assert lines[21] == (
        "        always 'setosa': accuracy 0.3333; class frequencies: loss 1.098612"
    )
    assert lines[22] == f"saved   {tmp_path / 'run'}"


def test_same_seed_same_bits(config, trained, tmp_path):
    assert command("train", config, "--out", tmp_path / "same") == 0
    assert command("train", config, "--out", tmp_path / "other", "--set", "seed=1") == 0
    assert digest(tmp_path / "same") == digest(trained) != digest(tmp_path / "other")


def test_the_saved_config_makes_the_run_again(trained, tmp_path):
    assert command("train", trained / "config.json", "--out", tmp_path / "again") == 0
    assert digest(tmp_path / "again") == digest(trained)


def test_evaluate_repeats_the_test_scores(trained, capsys):
    summary = json.loads((trained / "summary.json").read_text())
    scores = evaluation.evaluate(trained).scores
    assert (scores.log_loss, scores.accuracy) == (summary["test_loss"], summary["test_accuracy"])
    assert scores.model_dump_json(indent=2) == (trained / "scores.json").read_text()
    counts = np.loadtxt(trained / "confusion.csv", str, delimiter=",")
    assert counts[1:, 1:].astype(int).sum() == scores.rows == 30
    assert counts[0, 1:].tolist() == ["setosa", "versicolor", "virginica"]
    capsys.readouterr()
    assert command("evaluate", trained) == 0
    assert f"accuracy {scores.accuracy:.4f} (" in capsys.readouterr().out


def labelled(path, names, label="class", rename=str):
    features, labels = load_iris(return_X_y=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, label])
        words = load_iris().target_names[labels]
        writer.writerows([*row, rename(word)] for row, word in zip(features, words, strict=True))
    return path


def test_evaluate_on_other_files(trained, tmp_path, capsys):
    names = load_iris().feature_names
    first = labelled(tmp_path / "first.csv", names)
    second = labelled(tmp_path / "second.csv", names, rename=lambda word: f"Iris-{word}")
    assert command("evaluate", trained, "--data", first, "--out", tmp_path / "s") == 0
    assert "on 150 rows" in capsys.readouterr().out
    assert json.loads((tmp_path / "s" / "first-scores.json").read_text())["rows"] == 150
    assert command("evaluate", trained, "--data", first, "--data", second) == 2
    assert capsys.readouterr().err.startswith(
        f"{second}: the label 'Iris-setosa' is none of the model's classes, "
        f"'setosa', 'versicolor', 'virginica' (150 such rows); give it a name of these with"
    )
    renamed = [f"--label-map=Iris-{word}={word}" for word in ("setosa", "versicolor")]
    assert (
        command("evaluate", trained, "--data", second, *renamed, "--label-map=Iris-virginica=") == 0
    )
    assert "on 100 rows" in capsys.readouterr().out


def test_a_score_that_is_too_low_has_its_own_exit_code(trained, capsys):
    assert command("evaluate", trained, "--fail-under", "accuracy=0.5") == 0
    assert command("evaluate", trained, "--fail-under", "log_loss=0.0001") == 3
    assert "log_loss is" in capsys.readouterr().err
    assert command("evaluate", trained, "--fail-under", "acuracy=1") == 2
    assert "choose one of log_loss, accuracy, balanced_accuracy" in capsys.readouterr().err


def test_evaluate_refuses_other_data(trained, tmp_path, monkeypatch, capsys):
    def changed(config):
        return data.prepare(config)._replace(fingerprint="other")

    monkeypatch.setattr(evaluation, "prepare", changed)
    assert command("evaluate", trained) == 2
    assert capsys.readouterr().err == (
        f"{trained}: the data are no longer those the model was trained on, "
        f"so its test rows "
        f"cannot be found again; evaluate all rows of a file with --data FILE\n"
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
    columns = card["columns"]["columns"]
    mean, scale = ([column[key] for column in columns] for key in ("mean", "scale"))
    logits = (features - mean) / scale @ arrays["kernel"] + arrays["bias"]
    expected = np.exp(logits) / np.exp(logits).sum()
    names = load_iris().feature_names
    model = load(trained)
    for table in (features, dict(zip(reversed(names), reversed(features.T), strict=True))):
        found = model.predict(table)
        assert found.probabilities[0] == pytest.approx(expected[0], rel=1e-5)
        assert found.labels == [card["classes"][expected.argmax()]]


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.csv"
    names = [*load_iris().feature_names, "id"]
    path.write_text(",".join(names) + "\n5,3,4,1,a\n5,oops,4,1,b\n6,3,5,2,c\n")
    return path


def test_predict_passes_columns_on_and_answers_briefly(trained, rows, capsys):
    good = ("--on-bad-row", "skip", "--keep", "id")
    assert command("predict", trained, "--input", rows, *good, "--classes-only") == 0
    out = capsys.readouterr()
    assert [row[0] for row in csv.reader(out.out.splitlines())] == ["id", "a", "c"]
    assert out.err == "note: 1 rows could not be read (skip)\n"
    assert command("predict", trained, "--input", rows, *good, "--top", 2) == 0
    header, first, _ = csv.reader(capsys.readouterr().out.splitlines())
    assert header == ["id", "prediction 1", "p 1", "prediction 2", "p 2"]
    assert float(first[2]) > float(first[4])


def test_a_bad_row_stops_is_left_out_or_has_no_answer(trained, rows, tmp_path, capsys):
    output = tmp_path / "out.csv"
    assert command("predict", trained, "--input", rows, "--output", output) == 2
    assert capsys.readouterr().err == (
        f"{rows}: line 3, column 'sepal width (cm)': expected a finite number, got 'oops'; "
        f"--on-bad-row skip or nan goes on\n"
    )
    assert not output.exists()
    assert command("predict", trained, "--input", rows, "--on-bad-row", "nan", "--keep=id") == 0
    answers = list(csv.reader(capsys.readouterr().out.splitlines()))
    assert answers[2] == ["b", "", "", "", ""]


def test_predict_reads_standard_input(trained, rows, monkeypatch, capsys):
    stdin = io.TextIOWrapper(io.BytesIO(rows.read_bytes().replace(b"oops", b"3")))
    monkeypatch.setattr("sys.stdin", stdin)
    assert command("predict", trained, "--input", "-", "--output", "-") == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_predictions_are_never_written_over_their_input(trained, rows, capsys):
    before = rows.read_bytes()
    (rows.parent / "link.csv").symlink_to(rows)
    for output in (rows, rows.parent / "link.csv"):
        assert command("predict", trained, "--input", rows, "--output", output) == 2
        assert "is the input; predictions are never written over it" in capsys.readouterr().err
    assert rows.read_bytes() == before


def test_a_config_of_three_lines(tmp_path, capsys):
    labelled(tmp_path / "t.csv", load_iris().feature_names, "species")
    (tmp_path / "c.toml").write_text('[data]\npath = "t.csv"\nlabel = "species"\n')
    assert command("train", tmp_path / "c.toml", "--out", tmp_path / "run") == 0
    out = capsys.readouterr().out
    assert "solver  converged: " in out
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["test_accuracy"] > 0.9
    assert command("evaluate", tmp_path / "run") == 0
    moved = (tmp_path / "t.csv").rename(tmp_path / "moved.csv")
    assert command("evaluate", tmp_path / "run") == 2
    assert command("evaluate", tmp_path / "run", "--path", moved) == 0


def test_init_writes_a_config_that_trains(tmp_path, capsys):
    file = labelled(tmp_path / "t.csv", load_iris().feature_names, "species")
    (tmp_path / "configs").mkdir()
    config = tmp_path / "configs" / "c.toml"
    assert command("init", file, "--label", "species", "--out", config) == 0
    assert command("config", "check", config) == 0
    assert command("data", "describe", config) == 0
    told = capsys.readouterr().out
    assert "105 train, 15 validation, 30 test" in told
    assert command("data", "describe", file, "--label", "-1") == 0
    assert capsys.readouterr().out == told[told.index("data    ") :]
    assert command("init", file, "--out", config) == 2


def test_every_row_is_tested_once_by_cv(config, capsys):
    assert command("cv", config, "--folds", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[::2]] == ["fold", "fold", "fold", "all"]
    assert lines[6].endswith("on 150 rows")


def test_the_old_model_stays_until_the_new_one_is_there(config, trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    diverging = ("--set", "solver.learning_rate=1e38", "--set", "model.l2=1")
    assert command("train", config, "--out", folder, "--overwrite", *diverging) == 1
    assert digest(folder) == digest(trained)
    assert command("evaluate", folder) == 0


def test_a_model_worse_than_the_class_frequencies_is_no_success(config, tmp_path, capsys):
    wild = ("--set", "solver.name=sgd", "--set", "solver.learning_rate=3e4")
    assert command("train", config, "--out", tmp_path / "run", *wild) == 1
    assert "of always giving the frequencies of the classes" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_two_trainers_cannot_share_a_folder(config, tmp_path, capsys):
    claim = run_folder.claim(tmp_path / "run", "c", overwrite=False)
    assert command("train", config, "--out", tmp_path / "run") == 2
    assert capsys.readouterr().err == (
        f"{tmp_path / 'run'}: another process is training in this folder; choose another --out\n"
    )
    claim.publish()
    assert command("train", config, "--out", tmp_path / "run", "--set", "solver.epochs=3") == 0


def test_runs_of_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda pattern: pattern.split("-%")[0] + "-now")
    claims = [run_folder.claim(None, "c", overwrite=False) for _ in range(3)]
    assert [claim.folder.name for claim in claims] == ["c-now", "c-now-2", "c-now-3"]
    for claim in claims:
        claim.lock.close()


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
    assert command("train", config, "--out", folder, "--overwrite", "--set", "solver.epochs=3") == 0
    assert json.loads((folder / "summary.json").read_text())["iterations"] == 9
    assert (folder / "notes.txt").read_text() == "mine"


def test_the_default_folder_carries_the_name_of_the_config(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("train", config, "--set", "solver.epochs=3") == 0
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
    assert capsys.readouterr().err == f"{tmp_path / 'f.parquet'}: there is no such file\n"
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


def test_env_says_what_is_in_use_and_why_not(capsys):
    assert command("env") == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(told) == ["jaxsoftmax", "Python", "JAX", "devices", "row", "huge"]
    assert told["JAX"].startswith(jax.__version__)
    with kernels("off"):
        assert command("env") == 0
    assert "row kernels  not in use: JAXSOFTMAX_KERNELS=off" in capsys.readouterr().out
