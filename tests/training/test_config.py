"""Configs: what is accepted, and the one line that each mistake gets."""

import json
import re
from pathlib import Path

import pytest

from jaxsoftmax.training.config import RunConfig, load_config, reference
from jaxsoftmax.training.config.file import load_sweep
from jaxsoftmax.training.errors import InputError

pytestmark = pytest.mark.once

CONFIGS = Path(__file__).parents[2] / "configs"

VALID = """
seed = 3
[data]
name = "iris"
[model]
l2 = 0.0
[solver]
name = "momentum"
epochs = 3
batch_size = 16
learning_rate = 0.1
momentum = 0.5
schedule = { name = "cosine" }
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(VALID)
    return path


BUILTIN = ("digits", "iris", "wine", "breast_cancer", "mnist5k", "kjv")


def complaints(path, *overrides):
    with pytest.raises(InputError) as failure:
        load_config(path, overrides)
    return str(failure.value).replace(f"{path}", "FILE").splitlines()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configs_are_valid_and_say_what_they_are(path):
    sweeps = "[sweep]" in path.read_text()
    config = load_sweep(path)[0] if sweeps else load_config(path)
    head = path.read_text().split("\n\n")[0]
    assert re.search(rf"\./run (train|sweep) configs/{path.name}", head)
    assert "# Time " in head
    if config.data.name is not None:  # how good a probe is depends on whose embeddings they are
        assert "# Accuracy " in head


def test_defaults_are_filled_in_and_survive_a_round_trip(file, tmp_path):
    config = load_config(file)
    assert (config.seed, config.model.l2, config.split.test) == (3, 0.0, 0.2)
    resolved = tmp_path / "config.json"
    resolved.write_text(config.model_dump_json())
    assert load_config(resolved) == config


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("batch_size", "bach_size", "[solver] bach_size: unknown key; did you mean 'batch_size'?"),
        ("epochs = 3", "epochs = 3.5", "[solver] epochs: expected an integer, got 3.5"),
        ("epochs = 3", "", "[solver] epochs: is missing; write epochs = …"),
        ("= 16", '= "16"', '[solver] batch_size: expected an integer, got "16"'),
        ("= 16", "= true", "[solver] batch_size: expected an integer, got true"),
        ("= 16", "= 0", "[solver] batch_size: expected a number greater than 0, got 0"),
        ("= 0.5", "= 1.0", "[solver] momentum: expected a number less than 1, got 1.0"),
        (
            "= 0.1",
            "= -3.0",
            "[solver] learning_rate: expected a number greater than 0, got -3.0",
        ),
        ("= 0.1", "= nan", "[solver] learning_rate: expected a finite number, got NaN"),
        ("= 0.1", "= inf", "[solver] learning_rate: expected a finite number, got Infinity"),
        ("cosine", "cosin", "[solver.schedule] name: unknown 'cosin'; did you mean 'cosine'?"),
        ("iris", "irs", "[data] name: unknown \"irs\"; did you mean 'iris'?"),
        ('name = "momentum"', "", "[solver] name: is missing; write name = …"),
        (
            "momentum = 0.5",
            "q = 0.5",
            (
                "[solver] q: unknown key; choose one of "
                "batch_size, clip_norm, epochs, learning_rate, momentum, name, nesterov, patience, "
                "schedule"
            ),
        ),
        (
            '{ name = "cosine" }',
            '{ name = "piecewise", epochs = [2, 0], factors = [1.0, 1.0] }',
            "[solver.schedule] epochs[1]: expected a number greater than 0, got 0",
        ),
        (
            '{ name = "cosine" }',
            '{ name = "piecewise", epochs = [2, 1], factors = [1.0, 1.0] }',
            "[solver] schedule: epochs must increase, got [2, 1]",
        ),
        (
            "[data]",
            "[split]\ntrain = 0.8\nvalidation = 0.1\ntest = 0.2\n[data]",
            "split: train + validation + test must be 1, got 1.1",
        ),
        ("seed = 3", "seed = 3\nsplit = 3", "split: expected a table, got 3"),
    ],
)
def test_one_mistake_is_one_line(file, before, after, line):
    assert before in VALID
    file.write_text(VALID.replace(before, after, 1))
    assert complaints(file) == [f"FILE: {line}"]


def test_all_mistakes_are_listed(file):
    file.write_text(VALID.replace("seed = 3", "seeed = 3\nseed = -1").replace("iris", "x"))
    assert complaints(file) == [
        "FILE: seed: expected a number at least 0, got -1",
        'FILE: [data] name: unknown "x"; choose one of ' + ", ".join(BUILTIN),
        "FILE: seeed: unknown key; did you mean 'seed'?",
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
        ["solver.batch_size=64", "data.name=wine", "solver.nesterov = true", "model.l2=1e-3"],
    )
    assert (config.solver.batch_size, config.data.name) == (64, "wine")
    assert (config.solver.nesterov, config.model.l2) == (True, 1e-3)


def test_an_override_that_is_wrong_names_itself(file):
    assert complaints(file, "model.l2=lots", "solver.name=momentun") == [
        '--set model.l2: expected a number or "auto", got "lots"',
        "--set solver.name: unknown 'momentun'; did you mean 'momentum'?",
    ]
    assert complaints(file, "batch_size") == [
        "--set batch_size: expected section.key=value, as in solver.batch_size=64"
    ]
    assert complaints(file, "seed.x=1") == ["--set seed.x: seed is not a table"]


def test_a_new_tag_drops_what_only_the_old_branch_knew(file):
    config = load_config(file, ["solver.name=adam"])
    assert json.loads(config.solver.model_dump_json()) == {
        "name": "adam", "epochs": 3, "batch_size": 16, "learning_rate": 0.1,
        "schedule": {"name": "cosine", "end": 0.0},
        "clip_norm": None, "patience": None, "b1": 0.9, "b2": 0.999, "eps": 1e-8,
    }  # fmt: skip
    typo = file.with_name("typo.toml")
    typo.write_text(VALID.replace("momentum = 0.5", "momentun = 0.5"))
    assert complaints(typo, "solver.name=sgd")[0].startswith("FILE: [solver] momentun: unk")


def test_data_paths_start_at_the_file_and_overrides_at_the_working_directory(
    file, tmp_path, monkeypatch
):
    file.write_text(VALID.replace('name = "iris"', 'path = "a.csv"\nlabel = "y"'))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert load_config(file).data.path == str(tmp_path / "a.csv")
    assert load_config(file, ["data.path=b.csv"]).data.path == str(elsewhere / "b.csv")


def test_the_reference_page_is_that_of_the_models():
    page = (CONFIGS.parent / "docs" / "config.md").read_text()
    assert page == reference.page(), "write it again: jaxsoftmax config reference > docs/config.md"
    for section in ("data", "columns", "split", "model"):
        for key in RunConfig.model_fields[section].annotation.model_fields:
            assert f"| `{key}` |" in page
