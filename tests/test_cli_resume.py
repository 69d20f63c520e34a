"""``train --resume``: what a user of an interrupted run types and reads."""

import errno
import hashlib
import os
import re
import resource
import signal

import jax
import pytest

from jaxsoftmax.cli import memory
from jaxsoftmax.training import trainer
from jaxsoftmax.training.runs import checkpoints, loop
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
[checkpoint]
every_steps = 5
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "flowers.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert command("train", config, "--out", folder) == 0
    return folder


def digests(folder):
    names = ("model.safetensors", "model.json", "metrics.jsonl", "scores.json", "confusion.csv")
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]


@pytest.fixture
def stopping(monkeypatch):
    """Sends this process a signal before the n-th call of the loop."""

    def at(count, number):
        calls = iter(range(1000))
        advance = loop.advance

        def advanced(*arguments):
            if next(calls) == count:
                os.kill(os.getpid(), number)
            return advance(*arguments)

        monkeypatch.setattr(trainer.loop, "advance", advanced)

    return at


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.once)],
)
def test_a_signal_saves_and_the_run_goes_on_to_the_same_bits(
    config, whole, stopping, monkeypatch, tmp_path, capsys, number, code
):
    run = tmp_path / "run"
    stopping(3, number)
    assert command("train", config, "--out", run) == code
    name = signal.Signals(number).name
    told = re.fullmatch(
        rf"{name}: saving after this step; a second signal ends the run at once\n"
        rf"stopped after (\d+) steps, and saved; go on with jaxsoftmax train --resume {run}\n",
        capsys.readouterr().err,
    )
    assert checkpoints.numbers(run)[-1] == int(told[1]) < 36
    assert command("evaluate", run) == 2
    assert "go on with jaxsoftmax train --resume" in capsys.readouterr().err
    assert command("train", config, "--out", run) == 2
    assert capsys.readouterr().err == (
        f"{run}: holds an unfinished run; go on with jaxsoftmax train --resume {run}, "
        f"choose another --out or add --overwrite\n"
    )
    stopping(2, number)  # once more
    assert command("train", "--resume", run) == code
    monkeypatch.undo()
    capsys.readouterr()
    assert command("train", "--resume", run) == 0
    assert re.search(r"resumed .*/checkpoints/000000\d\d: after \d+ steps", capsys.readouterr().out)
    assert digests(run) == digests(whole)
    assert not (run / "checkpoints").exists()
    assert command("evaluate", run) == 0
    assert command("train", "--resume", run) == 2
    assert capsys.readouterr().err == f"{run}: is complete; there is nothing to resume\n"


def test_a_signal_handler_is_given_back(config, stopping, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    stopping(1, signal.SIGTERM)
    assert command("train", config, "--out", tmp_path / "run") == 143
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.once
def test_changes_need_a_name(config, stopping, monkeypatch, tmp_path, capsys):
    run = tmp_path / "run"
    stopping(3, signal.SIGINT)
    assert command("train", config, "--out", run) == 130
    monkeypatch.undo()
    slower = ("train", "--resume", run, "--set", "solver.learning_rate=0.1")
    capsys.readouterr()
    assert command(*slower) == 2
    assert "solver.learning_rate: was 0.3, is 0.1" in capsys.readouterr().err
    assert command(*slower, "--allow-change", "solver.lerning_rate") == 2
    assert "expected data, or a key or section of the config" in capsys.readouterr().err
    assert command(*slower, "--allow-change", "seed,solver.learning_rate") == 0


def test_usage(config, tmp_path, capsys):
    for arguments, told in [
        ((), "train: needs a config, or --resume RUN"),
        ((config, "--allow-change", "data"), "--allow-change: is for runs that go on"),
        (("--resume", tmp_path, "--out", tmp_path), "--resume: a run goes on where it is"),
        (("--resume", tmp_path / "no"), f"{tmp_path / 'no'}: there is no such run"),
        (("--resume", tmp_path), f"{tmp_path}: holds no checkpoint to resume from"),
    ]:
        assert command("train", *arguments) == 2
        assert capsys.readouterr().err.startswith(told)


def test_a_loss_that_is_not_finite_leaves_the_last_good_state(config, tmp_path, capsys):
    run = tmp_path / "run"
    wild = ("--set", "solver.name=sgd", "--set", "solver.learning_rate=1e38", "--set", "model.l2=1")
    assert command("train", config, "--out", run, *wild) == 1
    told = capsys.readouterr().err
    assert "no longer finite in epoch 1, step 2 of 3 (rows " in told
    assert "of the source, from 0); no model was written." in told
    assert f"The state before that step is in {run / 'checkpoints' / '00000001'}; " in told
    state = checkpoints.latest(run, lambda message: None)
    assert state.card.steps == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: …"),
        RuntimeError("INTERNAL: Out of memory"),
        RuntimeError("can't start new thread"),
        ImportError("libx.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_the_end_of_memory_is_a_sentence(error, config, monkeypatch, tmp_path, capsys):
    def advance(*_):
        raise error

    monkeypatch.setattr(trainer.loop, "advance", advance)
    assert command("train", config, "--out", tmp_path / "run") == 1
    assert capsys.readouterr().err.startswith("there is not enough memory; what was saved is as ")
    assert checkpoints.numbers(tmp_path / "run") == [0]


@pytest.mark.parametrize("error", [RuntimeError("x"), ImportError("no module named x")], ids=repr)
def test_other_errors_are_not_the_end_of_memory(error, config, monkeypatch, tmp_path):
    def advance(*_):
        raise error

    monkeypatch.setattr(trainer.loop, "advance", advance)
    with pytest.raises(type(error)):
        command("train", config, "--out", tmp_path / "run")


@pytest.mark.parametrize(("limit", "few"), [(3 << 30, True), (resource.RLIM_INFINITY, False)])
def test_an_error_that_was_not_set_is_the_end_of_few_addresses(limit, few, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    assert memory.ended(SystemError("error return without exception set")) == few


@pytest.mark.parametrize("limit", [3 << 30, 5 << 30, resource.RLIM_INFINITY])
def test_few_addresses_are_told_before_the_compiler_finds_out(limit, monkeypatch, capsys):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    command("config", "check", "nowhere.toml")
    told = "this process may have 3.2 GB of addresses (ulimit -v)" in capsys.readouterr().err
    assert told == (limit == 3 << 30)


@pytest.mark.once
def test_a_replacement_that_was_interrupted_replaces_when_it_is_done(
    config, whole, stopping, monkeypatch, tmp_path, capsys
):
    run = tmp_path / "run"
    assert command("train", config, "--out", run, "--set", "solver.epochs=3") == 0
    before = digests(run)
    stopping(3, signal.SIGINT)
    assert command("train", config, "--out", run, "--overwrite") == 130
    assert f"--resume {run}.new" in capsys.readouterr().err
    monkeypatch.undo()
    assert digests(run) == before
    assert command("train", "--resume", f"{run}.new") == 0
    assert digests(run) == digests(whole)
    assert not run.with_name("run.new").exists()
