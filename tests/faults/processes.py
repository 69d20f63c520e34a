"""Processes that are killed, asked to stop, or not alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.runs import checkpoints, resume
from jaxsoftmax.training.runs.folder import claim, claim_again

from .scene import STEPS, Scene, Tally, digest

PATIENCE = 120  # seconds


def started(*arguments: object) -> subprocess.Popen[str]:
    """A process of ours."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def trained(scene: Scene, folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """A trainer: a new one, or one that goes on where there is a checkpoint."""
    where = ("--resume", folder) if checkpoints.numbers(folder) else (scene.config, "--out", folder)
    return started("-m", "jaxsoftmax", "train", *where, *arguments)


def reached(folder: Path, steps: int, process: subprocess.Popen[str]) -> None:
    """Waits until there is a checkpoint of so many steps."""
    limit = time.monotonic() + PATIENCE
    while not any(found >= steps for found in checkpoints.numbers(folder)):
        if process.poll() is not None or time.monotonic() > limit:
            raise AssertionError(f"no checkpoint of {steps} steps: {process.communicate()}")
        time.sleep(0.002)


def readable(scene: Scene, folder: Path) -> int:
    """The steps of the newest checkpoint, which must be as it was written; or -1."""
    found = checkpoints.latest(folder, lambda message: None)
    state = resume.state_of(scene.job, found)
    right = scene.states[found.card.steps % len(scene.states)]
    return found.card.steps if digest(state) == digest(right) else -1


def killed_saving(scene: Scene, budget: int) -> Tally:
    """A process that does nothing but save is killed at random moments."""
    tally, numbers = Tally(), random.Random(5)
    folder = scene.saved([0])
    with started("-m", "tests.faults.victim", scene.config, folder, budget) as victim:
        assert victim.stdout is not None
        for line in victim.stdout:
            child = int(line)
            time.sleep(numbers.uniform(0.0, 0.15))
            known = max(checkpoints.numbers(folder))  # this one, or one that came after it
            os.kill(child, signal.SIGKILL)
            tally.note(readable(scene, folder) >= known, f"after {known} steps")
    assert victim.returncode == 0
    return tally


def killed_training(scene: Scene, budget: int) -> Tally:
    """A trainer is killed at a random moment, taken up, killed …, and ends with the same bits."""
    tally, numbers = Tally(), random.Random(6)
    folder, done = scene.new("killed"), 0
    for turn in range(budget):
        with trained(scene, folder) as process:
            reached(folder, done + 1, process)
            time.sleep(numbers.uniform(0, 0.05))
            process.kill()
        known = max(checkpoints.numbers(folder))
        done = readable(scene, folder)
        tally.note(done == known, f"kill {turn}: {done} steps of {known}")
        if done > STEPS - 10:
            tally.note(digest(scene.to_the_end(folder)) == scene.digest, "the end")
            folder, done = scene.new("killed"), 0
    tally.note(digest(scene.to_the_end(folder)) == scene.digest, "the end")
    return tally


def asked(scene: Scene, budget: int) -> Tally:
    """SIGINT, SIGTERM and SIGHUP at random moments; and twice, which ends the process at once."""
    tally, numbers = Tally(), random.Random(7)
    kinds = [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGHUP, 1), (signal.SIGINT, 2)]
    for turn in range(budget):
        number, times = kinds[turn % len(kinds)]
        folder = scene.new("asked")
        with trained(scene, folder) as process:
            reached(folder, numbers.randrange(1, 5), process)
            for _ in range(times):
                process.send_signal(number)
            _, errors = process.communicate(timeout=PATIENCE)
        codes = {128 + number} if times == 1 else {128 + number, -number}
        said = times == 2 or f"go on with jaxsoftmax train --resume '{folder}'" in errors
        whole = digest(scene.to_the_end(folder)) == scene.digest
        tally.note(process.returncode in codes and said and whole, f"{number!r}: {errors}")
    return tally


def together(scene: Scene, budget: int) -> Tally:
    """A second trainer in the folder of another process, however it asks."""
    del budget
    tally, folder = Tally(), scene.saved([5])
    holder = "import sys; from pathlib import Path; from jaxsoftmax.training.runs import folder\n"
    holder += "with folder.claim_again(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for name, ask in {
            "resume": lambda: claim_again(folder),
            "new": lambda: claim(folder, "c", overwrite=False),
            "overwrite": lambda: claim(folder, "c", overwrite=True),
        }.items():
            try:
                ask().lock.close()
            except InputError as error:
                tally.note("another process is training" in str(error), f"{name}: {error}")
            else:
                tally.note(False, name)
        tally.note(readable(scene, folder) == 5, "the run of the first")
        process.kill()
    with claim_again(folder) as mine:  # the lock went with its process
        tally.note(mine.folder == folder, "after the first has ended")
    return tally
