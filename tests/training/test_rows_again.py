"""Rows that come to a trained model in a file: read as the run reads its own."""

import csv
import json

import numpy as np
import pytest

from jaxsoftmax.training import data
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.evaluation import evaluate_file
from jaxsoftmax.training.prediction import predict
from jaxsoftmax.training.trainer import train

pytestmark = [pytest.mark.default_modes, pytest.mark.once]

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 2)).round(3)
Y = np.array(["cat", "dog"])[(X[:, 0] + RANDOM.normal(size=60) > 0).astype(int)]
CARETS = "".join(f"{a}^{b}^{y}\n" for (a, b), y in zip(X, Y, strict=True)).replace(".", ",")


def write_archive(path):
    np.savez(path, other=X[:, :1], rows=X, y=Y)


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("t.npz", write_archive, {"array": "rows"}),
        (
            "t.csv",
            lambda path: path.write_text(CARETS, "utf-16"),
            {"delimiter": "^", "label": -1, "decimal": ",", "header": False, "encoding": "utf-16"},
        ),
    ],
    ids=["array", "dialect"],
)
def test_the_file_of_training_is_read_again(name, write, said, tmp_path):
    write(tmp_path / name)
    tree = {
        "data": {"path": str(tmp_path / name)} | said,
        "model": {"l2": 0.1},
        "solver": {"name": "newton_cg", "max_iterations": 5},
    }
    config = RunConfig.model_validate_json(json.dumps(tree))
    dataset = data.prepare(config)
    (tmp_path / "run").mkdir()
    train(config, dataset, tmp_path / "run")
    predict(tmp_path / "run", tmp_path / name, tmp_path / "answers.csv")
    with (tmp_path / "answers.csv").open() as file:
        answers = [row["prediction"] for row in csv.DictReader(file)]
    scores = evaluate_file(tmp_path / "run", tmp_path / name).scores
    assert scores.accuracy == np.mean(np.array(answers) == Y)
    assert scores.rows == len(Y)


def test_another_delimiter_than_that_of_training(tmp_path):
    """What the config says of the file of training need not hold for the next one."""
    lines = ["a;b;y", *(f"{a};{b};{y}" for (a, b), y in zip(X, Y, strict=True))]
    (tmp_path / "t.csv").write_text("\n".join(lines).replace(".", ","))
    (tmp_path / "next.csv").write_text("\n".join(lines).replace(";", ","))
    said = {"path": str(tmp_path / "t.csv"), "label": "y", "delimiter": ";", "decimal": ","}
    tree = {"data": said, "model": {"l2": 0.1}, "solver": {"name": "newton_cg"}}
    config = RunConfig.model_validate_json(json.dumps(tree))
    (tmp_path / "run").mkdir()
    train(config, data.prepare(config), tmp_path / "run")
    written = []
    for name in ("t.csv", "next.csv"):
        predict(tmp_path / "run", tmp_path / name, tmp_path / "answers.csv")
        written.append((tmp_path / "answers.csv").read_text())
        assert evaluate_file(tmp_path / "run", tmp_path / name).scores.rows == len(Y)
    assert written[0] == written[1]
