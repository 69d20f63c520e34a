"""A disk that is full, read-only or broken: the error names the path, the old state stays."""

from __future__ import annotations

import errno
import os
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxsoftmax.training import trainer
from jaxsoftmax.training.runs import checkpoints, resume
from jaxsoftmax.training.runs.folder import SUMS, read_summary

from .scene import STEPS, Scene, Tally, digest

CALLS = ("open", "mkdir", "fsync", "rename", "replace")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT)


@contextmanager
def failing(number: int, error: int, folder: Path) -> Iterator[list[int]]:
    """The ``number``-th call that touches the folder fails."""
    count = [0]
    before = {name: getattr(os, name) for name in CALLS}

    def wrapped(name: str) -> Any:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(path, int) or str(path).startswith(str(folder)):
                count[0] += 1
                if count[0] == number:
                    raise OSError(error, os.strerror(error))
            return before[name](path, *arguments, **options)

        return call

    for name in CALLS:
        setattr(os, name, wrapped(name))
    try:
        yield count
    finally:
        for name, call in before.items():
            setattr(os, name, call)


def calls(scene: Scene, budget: int) -> Tally:
    """Every call to the system of a save fails in turn, with each error."""
    tally = Tally()
    for error in ERRORS[: max(1, budget)]:
        number = 1
        while True:
            folder = scene.saved([9])
            with failing(number, error, folder) as count:
                try:
                    checkpoints.save(folder, 10, scene.states[10], keep=2)
                except OSError as failure:
                    named = str(failure.filename).startswith(str(folder))
                else:
                    named = True
            if count[0] < number:
                break
            found = checkpoints.latest(folder, lambda message: None)
            state = resume.state_of(scene.job, found)
            right = digest(state) == digest(scene.states[found.card.steps])
            tally.note(named and right, f"call {number}, {os.strerror(error)}")
            number += 1
    return tally


def full(scene: Scene, budget: int) -> Tally:
    """Files can grow to so many bytes and no further, for as many sizes, all through a run."""
    tally, numbers = Tally(), random.Random(4)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for _ in range(budget):
        folder = scene.saved([STEPS - 2])
        checkpoint = checkpoints.latest(folder, lambda message: None)
        size = numbers.randrange(1, 40_000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            trainer.train(scene.job.config, scene.job.dataset, folder, checkpoint=checkpoint)
        except OSError as failure:
            right = str(failure.filename).startswith(str(folder)) and not (folder / SUMS).exists()
        else:  # no file is as large
            assert read_summary(folder)
            continue
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        right = right and digest(scene.to_the_end(folder)) == scene.digest
        tally.note(right, f"{size} bytes")
    return tally
