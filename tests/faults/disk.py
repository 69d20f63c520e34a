"""A disk that is full, read-only, broken or gone: the error names the path, the old state stays."""

from __future__ import annotations

import errno
import itertools
import os
import random
import resource
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsoftmax.training import trainer
from jaxsoftmax.training.runs import checkpoints, resume
from jaxsoftmax.training.runs.folder import SUMS, read_summary

from .scene import STEPS, Scene, Tally, digest

CALLS = ("open", "mkdir", "fsync", "rename", "replace", "unlink", "rmdir")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT)


@contextmanager
def at_call(number: int, folder: Path, act: Callable[[], None]) -> Iterator[list[int]]:
    """Something happens at the ``number``-th call that touches the folder."""
    count = [0]
    before = {name: getattr(os, name) for name in CALLS}

    def wrapped(name: str) -> Any:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(path, int) or str(path).startswith(str(folder)):
                count[0] += 1
                if count[0] == number:
                    act()
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

        def fail(error: int = error) -> None:
            raise OSError(error, os.strerror(error))

        for number in itertools.count(1):
            folder = scene.saved([9])
            with at_call(number, folder, fail) as count:
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
    return tally


def killed(scene: Scene, budget: int) -> Tally:
    """The process ends at every call to the system of a save in turn; the next save goes well."""
    del budget
    tally = Tally()
    ten, eleven = (
        jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, state)
        for state in scene.states[10:12]
    )
    for number in itertools.count(1):
        folder = scene.saved([9])
        with warnings.catch_warnings(action="ignore"):  # of forking with threads
            child = os.fork()
        if child == 0:
            with at_call(number, folder, lambda: os._exit(9)):
                checkpoints.save(folder, 10, ten, keep=2)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            return tally
        found = checkpoints.latest(folder, lambda message: None)
        state = resume.state_of(scene.job, found)
        right = digest(state) == digest(scene.states[found.card.steps])
        checkpoints.save(folder, 11, eleven, keep=1)
        left = [path.name for path in (folder / checkpoints.FOLDER).iterdir()]
        tally.note(right and left == ["00000011"], f"call {number}: {left}")
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
