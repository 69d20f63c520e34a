"""States are written while a run goes on; what cannot be written is told, and nothing is lost."""

import errno
import json
import threading
import time

import pytest

from jaxsoftmax.training import data, trainer
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.config.keys import CheckpointConfig
from jaxsoftmax.training.errors import InterruptedRunError
from jaxsoftmax.training.runs import checkpoints, loop
from jaxsoftmax.training.runs.saver import Saver

pytestmark = [pytest.mark.default_modes, pytest.mark.once]  # optax promotes types inside its rules

PATIENCE = 60  # seconds
TREE = {
    "data": {"source": "builtin", "name": "iris"},
    "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
    "model": {"l2": 1e-3},
    "solver": {"name": "sgd", "epochs": 8, "batch_size": 30, "learning_rate": 0.1},
    "checkpoint": {"every_steps": 6},
}


@pytest.fixture
def slow(monkeypatch):
    """Saves begin, and end when they may."""
    may, began, save = threading.Event(), threading.Event(), checkpoints.save

    def waiting(*arguments):
        began.set()
        assert may.wait(PATIENCE)
        return save(*arguments)

    monkeypatch.setattr(checkpoints, "save", waiting)
    return began, may


def test_steps_are_made_while_a_state_is_written(slow, monkeypatch, tmp_path):
    began, may = slow
    made, advance = [], loop.advance

    def advanced(job, state, steps):
        after = advance(job, state, steps)
        made.append(loop.steps(job, after))
        if made[-1] == 6:  # the first save has begun and is not done; the next is due, and waits
            assert began.is_set()
            assert checkpoints.numbers(tmp_path) == []
            may.set()
        return after

    monkeypatch.setattr(loop, "advance", advanced)
    config = RunConfig.model_validate_json(json.dumps(TREE))
    dataset = data.prepare(config)
    with pytest.raises(InterruptedRunError):  # there is nothing to see in the end of a run
        trainer.train(config, dataset, tmp_path, asked=lambda: 15 if 18 in made else None)
    assert made == sorted(set(made))  # no call makes no step
    assert checkpoints.numbers(tmp_path) == [12, 18]


def test_a_signal_waits_until_the_state_is_written(slow, tmp_path):
    _, may = slow
    config = RunConfig.model_validate_json(json.dumps(TREE))
    dataset = data.prepare(config)
    threading.Timer(0.5, may.set).start()
    with pytest.raises(InterruptedRunError, match="stopped after 0 steps, and saved"):
        trainer.train(config, dataset, tmp_path, asked=lambda: 15)
    assert checkpoints.numbers(tmp_path) == [0]


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device", "/there")


def looked(saver):
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        saver.due(1)


def saved(saver):
    saver.save(1, None)
    pytest.fail("saved")


@pytest.mark.parametrize("place", [looked, saved, lambda saver: None])
def test_what_cannot_be_written_is_told(place, monkeypatch, tmp_path):
    """At the next look at the clock, by the next save, or at the end."""
    monkeypatch.setattr(checkpoints, "save", full)

    def run():
        with Saver(tmp_path, CheckpointConfig(every_steps=1), None) as saver:
            saver.save(0, None)
            place(saver)

    with pytest.raises(OSError, match="No space left on device") as failure:
        run()
    assert failure.value.filename == "/there"


def test_another_error_is_not_hidden_and_what_was_begun_is_written(slow, tmp_path):
    _, may = slow
    config = RunConfig.model_validate_json(json.dumps(TREE))
    job = loop.prepare(config, data.prepare(config))

    def run():
        with Saver(tmp_path, config.checkpoint, None) as saver:
            saver.save(0, loop.begin(job))
            threading.Timer(0.2, may.set).start()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run()
    assert checkpoints.numbers(tmp_path) == [0]
