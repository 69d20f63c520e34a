"""Configs: what is accepted, and the one line that each mistake gets."""

import json
from pathlib import Path

import pytest

from jaxsoftmax.training.config_file import load_config
from jaxsoftmax.training.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs"

VALID = """
epochs = 3
[data]
source = "builtin"
name = "iris"
batch_size = 16
[optimizer]
name = "momentum"
learning_rate = 0.1
momentum = 0.5
schedule = { name = "cosine" }
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(VALID)
    return path


def complaints(path, *overrides):
    with pytest.raises(InputError) as failure:
        load_config(path, overrides)
    return str(failure.value).replace(f"{path}", "FILE").splitlines()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configs_are_valid_and_say_what_they_are(path):
    load_config(path)
    head = path.read_text().split("\n\n")[0]
    assert f"./run train configs/{path.name}" in head
    assert "# Time " in head
    assert "# Accuracy " in head


def test_defaults_are_filled_in_and_survive_a_round_trip(file, tmp_path):
    config = load_config(file)
    assert (config.seed, config.model.l2, config.data.split.test) == (0, 0.0, 0.2)
    resolved = tmp_path / "config.json"
    resolved.write_text(config.model_dump_json())
    assert load_config(resolved) == config


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("batch_size", "bach_size", "[data] bach_size: unknown key; did you mean 'batch_size'?"),
        ("epochs = 3", "epochs = 3.5", "epochs: expected an integer, got 3.5"),
        ("epochs = 3", "", "epochs: is missing"),
        ("= 16", '= "16"', '[data] batch_size: expected an integer, got "16"'),
        ("= 16", "= true", "[data] batch_size: expected an integer, got true"),
        ("= 16", "= 0", "[data] batch_size: expected a number greater than 0, got 0"),
        ("= 0.5", "= 1.0", "[optimizer] momentum: expected a number less than 1, got 1.0"),
        (
            "= 0.1",
            "= -3.0",
            "[optimizer] learning_rate: expected a number greater than 0, got -3.0",
        ),
        ("= 0.1", "= nan", "[optimizer] learning_rate: expected a finite number, got NaN"),
        ("= 0.1", "= inf", "[optimizer] learning_rate: expected a finite number, got Infinity"),
        ("cosine", "cosin", "[optimizer.schedule] name: unknown 'cosin'; did you mean 'cosine'?"),
        ("iris", "irs", "[data] name: unknown \"irs\"; did you mean 'iris'?"),
        ('name = "momentum"', "", "[optimizer] name: is missing"),
        (
            "momentum = 0.5",
            "q = 0.5",
            (
                "[optimizer] q: unknown key; choose one of "
                "clip_norm, learning_rate, momentum, name, nesterov, schedule"
            ),
        ),
        (
            '{ name = "cosine" }',
            '{ name = "piecewise", epochs = [2, 0], factors = [1.0, 1.0] }',
            "[optimizer.schedule] epochs[1]: expected a number greater than 0, got 0",
        ),
        (
            '{ name = "cosine" }',
            '{ name = "piecewise", epochs = [2, 1], factors = [1.0, 1.0] }',
            "[optimizer] schedule: epochs must increase, got [2, 1]",
        ),
        (
            "[data]",
            "[data]\nsplit = { train = 0.8, validation = 0.1, test = 0.2 }",
            "[data] split: train + validation + test must be 1, got 1.1",
        ),
        ("epochs = 3", "epochs = 3\nmodel = 3", "model: expected a table, got 3"),
    ],
)
def test_one_mistake_is_one_line(file, before, after, line):
    assert before in VALID
    file.write_text(VALID.replace(before, after, 1))
    assert complaints(file) == [f"FILE: {line}"]


def test_all_mistakes_are_listed(file):
    file.write_text(VALID.replace("epochs = 3", "epoch = -1\nepochs = -1").replace("iris", "x"))
    assert complaints(file) == [
        "FILE: epochs: expected a number greater than 0, got -1",
        'FILE: [data] name: unknown "x"; choose one of digits, iris, wine, breast_cancer, mnist5k',
        "FILE: epoch: unknown key; did you mean 'epochs'?",
    ]


def test_tables_that_contradict_each_other(file):
    assert complaints(file, "optimizer.name=lbfgs") == [
        "FILE: optimizer 'lbfgs' works on all training rows at once; remove [data] batch_size"
    ]


def test_files_that_cannot_be_read(tmp_path):
    assert complaints(tmp_path / "none.toml") == ["FILE: there is no such file"]
    assert complaints(tmp_path) == ["FILE: cannot be read: Is a directory"]
    broken = tmp_path / "broken.toml"
    for content in (b"epochs = ", b"a = 1\na = 2", b"\xff\xfe", b"a = " + b"[" * 10_000):
        broken.write_bytes(content)
        (line,) = complaints(broken)
        assert line.startswith("FILE: is not valid TOML: ")
    array = tmp_path / "array.json"
    array.write_text("[1]")
    assert complaints(array) == ["FILE: expected a table of settings, got [1]"]


def test_overrides_are_toml_literals_and_bare_words_are_strings(file):
    config = load_config(
        file,
        ["data.batch_size=64", "data.name=wine", "optimizer.nesterov = true", "model.l2=1e-3"],
    )
    assert (config.data.batch_size, config.data.name) == (64, "wine")
    assert (config.optimizer.nesterov, config.model.l2) == (True, 1e-3)


def test_an_override_that_is_wrong_names_itself(file):
    assert complaints(file, "data.batch_size=lots", "optimizer.name=momentun") == [
        '--set data.batch_size: expected an integer, got "lots"',
        "--set optimizer.name: unknown 'momentun'; did you mean 'momentum'?",
    ]
    assert complaints(file, "batch_size") == [
        "--set batch_size: expected section.key=value, as in data.batch_size=64"
    ]
    assert complaints(file, "epochs.x=1") == ["--set epochs.x: epochs is not a table"]


def test_a_new_tag_drops_what_only_the_old_branch_knew(file):
    config = load_config(file, ["optimizer.name=adam"])
    assert json.loads(config.optimizer.model_dump_json()) == {
        "name": "adam", "learning_rate": 0.1, "schedule": {"name": "cosine", "end": 0.0},
        "clip_norm": None, "b1": 0.9, "b2": 0.999, "eps": 1e-8,
    }  # fmt: skip
    typo = file.with_name("typo.toml")
    typo.write_text(VALID.replace("momentum = 0.5", "momentun = 0.5"))
    assert complaints(typo, "optimizer.name=sgd")[0].startswith("FILE: [optimizer] momentun: unk")


def test_data_paths_start_at_the_file_and_overrides_at_the_working_directory(
    file, tmp_path, monkeypatch
):
    file.write_text(
        VALID.replace('"builtin"', '"csv"').replace('name = "iris"', 'path = "a.csv"\nlabel = "y"')
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert load_config(file).data.path == tmp_path / "a.csv"
    assert load_config(file, ["data.path=b.csv"]).data.path == elsewhere / "b.csv"
