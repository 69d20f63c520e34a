"""Other versions, other clocks: what another jaxsoftmax wrote, and times that make no sense."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxsoftmax.training import trainer
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.runs import checkpoints, loop, resume
from jaxsoftmax.training.runs.folder import claim
from jaxsoftmax.training.sums import seal

from .scene import Scene, Tally, digest

KEPT = Path(__file__).parent / "kept"  # of each format that a release has written, after 30 steps
Change = Callable[[dict[str, Any]], object]
SKEWED: dict[str, Change] = {
    "a later format": lambda card: card.update(format="jaxsoftmax-checkpoint-2"),
    "no format": lambda card: card.pop("format"),
    "a later key": lambda card: card.update(momentum=3),
    "a later key of the config": lambda card: card["config"]["solver"].update(warp=1),
    "a later solver": lambda card: card["config"]["solver"].update(name="adam9"),
    "a key that is gone": lambda card: card.pop("position"),
    "another type": lambda card: card.update(records={"0": 1}),
    "no object": lambda card: card.clear(),
}


def skewed(scene: Scene, budget: int) -> Tally:
    """A newest checkpoint that is whole, and of another version: refused, never passed over."""
    del budget
    tally = Tally()
    for name, change in SKEWED.items():
        folder = scene.saved([30, 31])
        path = checkpoints.place_of(folder, 31)
        card = json.loads((path / checkpoints.CARD).read_text())
        card["versions"] = {"jaxsoftmax": "9.9"}
        change(card)
        (path / checkpoints.CARD).write_text(json.dumps(card))
        seal(path, (checkpoints.ARRAYS, checkpoints.CARD))
        told: list[str] = []
        try:
            found = checkpoints.latest(folder, told.append)
        except checkpoints.OtherVersionError as error:
            said = "is whole and cannot be read by this version" in str(error)
            who = name == "no object" or "written by jaxsoftmax 9.9" in str(error)
            tally.note(said and who and not told, f"{name}: {error}")
        else:
            known = name == "no format"  # which has a default
            tally.note(known and found.card.steps == 31, f"{name}: read")
    return tally


def kept(scene: Scene, budget: int) -> Tally:
    """Checkpoints of each format that was ever written: their runs end at the same losses."""
    del budget
    tally = Tally()
    for place in sorted(KEPT.iterdir()):
        folder = scene.new("kept")
        shutil.copytree(place, folder / checkpoints.FOLDER, dirs_exist_ok=True)
        checkpoint = checkpoints.latest(folder, lambda message: None)
        resume.check(checkpoint, scene.job.config, scene.job.dataset, ("data",))
        state = scene.to_the_end(folder)
        found, expected = (
            np.array([record[3:] for record in one.records]) for one in (state, scene.states[-1])
        )
        # Another JAX rounds otherwise.
        tally.note(bool(np.allclose(found, expected, rtol=1e-4, atol=1e-5)), place.name)
    return tally


@contextmanager
def clocks(numbers: random.Random) -> Iterator[None]:
    """Every clock of the process goes forwards and backwards by up to a day."""
    before = {name: getattr(time, name) for name in ("time", "monotonic", "localtime", "strftime")}

    def jump() -> float:
        return numbers.uniform(-86_400, 86_400)

    time.time = lambda: before["time"]() + jump()
    time.monotonic = lambda: before["monotonic"]() + jump()
    time.localtime = lambda seconds=None: before["localtime"](before["time"]() + jump())
    time.strftime = lambda text, when=None: before["strftime"](text, when or time.localtime())
    try:
        yield
    finally:
        for name, clock in before.items():
            setattr(time, name, clock)


def clock(scene: Scene, budget: int) -> Tally:
    """Clocks that jump during a run; files whose times say that the oldest is the newest."""
    tally, numbers = Tally(), random.Random(10)
    config = scene.job.config
    for turn in range(budget):
        folder = scene.saved([20, 21])
        for age, path in enumerate(sorted(folder.rglob("*"), reverse=True)):
            os.utime(path, (0, age * numbers.randrange(-1000, 4_000_000_000)))
        with clocks(numbers):
            checkpoint = checkpoints.latest(folder, lambda message: None)
            newest = checkpoint.card.steps == 21
            state = scene.to_the_end(folder)
        tally.note(newest and digest(state) == scene.digest, f"{turn}: from {checkpoint.path}")
    with clocks(numbers):
        folder = scene.saved([50])
        checkpoint = checkpoints.latest(folder, lambda message: None)
        saves = config.checkpoint.model_copy(update={"every_steps": None})
        config = config.model_copy(update={"checkpoint": saves})
        summary = trainer.train(config, scene.job.dataset, folder, checkpoint=checkpoint)
        tally.note(summary.iterations == loop.steps(scene.job, scene.states[-1]), "a whole run")
    return tally


def same_second(scene: Scene, budget: int) -> Tally:
    """Runs that are named by a clock which stands still or goes back: each has its own folder."""
    tally, folder = Tally(), scene.new("second")
    before, stamp = Path.cwd(), time.strftime
    os.chdir(folder)
    time.strftime = lambda text, *_: text.replace("%Y%m%d-%H%M%S", "20260101-000000")
    try:
        claims = [claim(None, "run", overwrite=False) for _ in range(budget)]
        tally.note(len({one.folder for one in claims}) == budget, "as many folders as runs")
        for one in claims:
            one.lock.close()
        try:
            claim(claims[0].folder, "run", overwrite=False).lock.close()
            tally.note(True, "an empty folder is taken")
        except InputError as error:
            tally.note(False, str(error))
    finally:
        time.strftime = stamp
        os.chdir(before)
    return tally
