"""What the faults are done to: a run of 60 steps, with checkpoints on the way, and finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxsoftmax.training import data, trainer
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.runs import RunState, checkpoints, loop, resume

STEPS = 60
EPOCH = 4  # steps: 90 rows, 26 at a time
TREE = {
    "data": {"source": "builtin", "name": "iris"},
    "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
    "model": {"l2": 1e-3},
    "solver": {
        "name": "adam",
        "epochs": STEPS // EPOCH,
        "batch_size": 26,
        "learning_rate": 0.05,
        "schedule": {"name": "cosine"},
    },
    "checkpoint": {"every_steps": 1, "keep": 2},
}


class Tally:
    """How often a kind of fault was tried, and what went wrong."""

    def __init__(self) -> None:
        """Nothing tried yet."""
        self.tried = 0
        self.wrong: list[str] = []

    def note(self, survived: bool, what: str) -> None:
        """One more."""
        self.tried += 1
        if not survived:
            self.wrong.append(what)

    @property
    def survived(self) -> int:
        """How many ended as they should."""
        return self.tried - len(self.wrong)


class Scene(NamedTuple):
    """A run as it should be.

    Attributes:
      folder: a place for what a fault needs.
      config: of the run, a file.
      finished: the folder of the run, complete.
      job: of the run.
      states: after 0, 1, … 60 steps.
      digest: of the last state.
    """

    folder: Path
    config: Path
    finished: Path
    job: loop.Job
    states: list[RunState]
    digest: str

    def new(self, name: str) -> Path:
        """A folder that did not exist."""
        count = sum(1 for _ in self.folder.iterdir())
        path = self.folder / f"{name} {count} – größer"  # paths have spaces and other letters
        path.mkdir()
        return path

    def saved(self, steps: list[int], name: str = "run") -> Path:
        """The folder of a run with checkpoints after so many steps."""
        folder = self.new(name)
        for count in steps:
            checkpoints.save(folder, count, self.states[count], keep=len(steps))
        return folder

    def to_the_end(self, folder: Path, stop: int | None = None) -> RunState:
        """Goes on from the newest checkpoint."""
        state = resume.state_of(self.job, checkpoints.latest(folder, lambda message: None))
        while not loop.finished(self.job, state) and loop.steps(self.job, state) != stop:
            ahead = None if stop is None else stop - loop.steps(self.job, state)
            state = loop.advance(self.job, state, ahead)
        return state


def make(folder: Path) -> Scene:
    """Trains the run that the faults are done to."""
    config = RunConfig.model_validate_json(json.dumps(TREE))
    path = folder / "config.json"
    path.write_text(json.dumps(TREE))
    dataset = data.prepare(config)
    job = loop.prepare(config, dataset)
    states = [loop.begin(job)]
    while not loop.finished(job, states[-1]):
        states.append(loop.advance(job, states[-1], 1))
    assert len(states) == STEPS + 1
    finished = folder / "finished"
    finished.mkdir()
    trainer.train(config, dataset, finished)
    checkpoints.remove(finished)
    return Scene(folder, path, finished, job, states, digest(states[-1]))


def digest(state: RunState) -> str:
    """A SHA-256 of parameters, solver, records and all else of a state."""
    found = hashlib.sha256(repr(state._replace(solver=None, best=None)).encode())
    found.update(repr(state.best.validation_loss).encode())
    for leaf in jax.tree.leaves(state.leaves):
        array = np.asarray(leaf)
        found.update(repr((array.dtype, array.shape)).encode() + array.tobytes())
    return found.hexdigest()


Fault = Callable[[Scene, int], Tally]
