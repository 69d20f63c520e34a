"""Files that are no longer what was written: noticed, or of no consequence, but never believed."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from jaxsoftmax.training import evaluation, load
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.runs import checkpoints, resume
from jaxsoftmax.training.runs.folder import read_summary

from .scene import Scene, Tally, digest

BLOCK = 512


def flip(content: bytes, numbers: random.Random) -> bytes:
    """One bit."""
    place = numbers.randrange(len(content))
    changed = content[place] ^ (1 << numbers.randrange(8))
    return content[:place] + bytes([changed]) + content[place + 1 :]


def cut(content: bytes, numbers: random.Random) -> bytes:
    """The end is missing, from a multiple of 64 bytes on."""
    return content[: 64 * numbers.randrange(len(content) // 64 + 1)]


def zero(content: bytes, numbers: random.Random) -> bytes:
    """A block of the disk is empty."""
    first = BLOCK * numbers.randrange(len(content) // BLOCK + 1)
    end = min(first + BLOCK, len(content))
    return content[:first] + bytes(end - first) + content[end:]


def grow(content: bytes, numbers: random.Random) -> bytes:
    """Something follows."""
    return content + numbers.randbytes(numbers.randrange(1, 100))


CHANGES = (flip, flip, flip, flip, cut, zero, grow)


@contextmanager
def damaged(file: Path, other: Path, numbers: random.Random) -> Iterator[str]:
    """Does something to a file, says what, and puts it back."""
    content = file.read_bytes()
    kind = numbers.choice([*CHANGES, "delete", "swap", "folder", "pipe"])
    if callable(kind):
        file.write_bytes(kind(content, numbers))
    elif kind == "swap":
        file.write_bytes(other.read_bytes())
    else:
        file.unlink()
        if kind == "folder":
            file.mkdir()
        elif kind == "pipe":  # of which nobody writes the other end
            os.mkfifo(file)
    try:
        yield f"{kind.__name__ if callable(kind) else kind} {file.name}"
    finally:
        if file.is_dir():
            file.rmdir()
        file.unlink(missing_ok=True)
        file.write_bytes(content)


def finished(scene: Scene, budget: int) -> Tally:
    """Every file of a finished run, read as ``evaluate`` does."""

    def read(folder: Path) -> tuple:
        summary = read_summary(folder)
        config = evaluation.config_of(folder)
        return summary, config, _bits(load(folder))

    return _over(scene, budget, read, lambda file: True)


def model(scene: Scene, budget: int) -> Tally:
    """The two files of the model, read alone as ``predict`` does."""
    return _over(
        scene, budget, lambda folder: _bits(load(folder)), lambda file: file.stem == "model"
    )


def _over(
    scene: Scene, budget: int, read: Callable[[Path], tuple], chosen: Callable[[Path], bool]
) -> Tally:
    tally, numbers = Tally(), random.Random(2)
    folder = scene.new("run")
    shutil.copytree(scene.finished, folder, dirs_exist_ok=True)
    whole = read(folder)
    files = sorted(file for file in folder.iterdir() if file.name[0] != "." and chosen(file))
    for turn in range(budget):
        file = files[turn % len(files)]
        with damaged(file, numbers.choice(files), numbers) as what:
            try:
                found = read(folder)
            except InputError as error:
                tally.note(str(folder) in str(error), f"{what}: {error}")
            else:
                tally.note(found == whole, f"{what}: believed")
    return tally


def _bits(found) -> tuple:
    params = [np.asarray(leaf).tobytes() for leaf in found.params if leaf is not None]
    return found.columns, found.classes, params


def checkpointed(scene: Scene, budget: int) -> Tally:
    """Every file of two checkpoints: the newest is as it was, or the one before is taken, told."""
    tally, numbers = Tally(), random.Random(3)
    steps = [30, 31]
    folder = scene.saved(steps)
    files = sorted(file for file in folder.glob("*/*/*") if file.is_file())
    others = {file: file.parent.with_name(f"{61 - int(file.parent.name):08d}") for file in files}
    for turn in range(budget):
        file = files[turn % len(files)]
        with damaged(file, others[file] / file.name, numbers) as what:
            told: list[str] = []
            found = checkpoints.latest(folder, told.append)
            state = resume.state_of(scene.job, found)
            right = digest(state) == digest(scene.states[found.card.steps])
            loud = found.card.steps == 31 or str(file.parent) in "".join(told)
            tally.note(right and loud, what)
    return tally


def misplaced(scene: Scene, budget: int) -> Tally:
    """Whole folders under a wrong name, empty, half gone, links, names that are no numbers."""
    tally = Tally()

    def swapped(parent: Path) -> None:
        (parent / "00000030").rename(parent / "x")
        (parent / "00000031").rename(parent / "00000030")
        (parent / "x").rename(parent / "00000031")

    def later(parent: Path) -> None:
        shutil.copytree(parent / "00000031", parent / "00000040")

    def empty(parent: Path) -> None:
        (parent / "00000040").mkdir()

    def link(parent: Path) -> None:
        (parent / "00000040").symlink_to(parent / "00000031")

    def a_file(parent: Path) -> None:
        (parent / "00000040").write_bytes(b"")

    def stale(parent: Path) -> None:
        shutil.copytree(parent / "00000031", parent / checkpoints.UNFINISHED)

    def strange(parent: Path) -> None:
        for name in ("٣٢", "-1", "1e9", "00000031.bak"):
            shutil.copytree(parent / "00000031", parent / name)

    del budget
    for change in (swapped, later, empty, link, a_file, stale, strange):
        folder = scene.saved([29, 30, 31])
        change(folder / checkpoints.FOLDER)
        told: list[str] = []
        found = checkpoints.latest(folder, told.append)
        state = resume.state_of(scene.job, found)
        right = digest(state) == digest(scene.states[found.card.steps])
        silent = change in (stale, strange)
        tally.note(right and silent != bool(told), change.__name__)
    return tally
