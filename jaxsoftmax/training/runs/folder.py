"""The folder of a run: what lies in it, and how one trainer alone gets it.

A folder is claimed by a lock that the operating system gives back when the process ends, however it
ends. ``--overwrite`` trains in ``NAME.new`` beside the old run, which is replaced when the new one
is complete, and not before.
"""

from __future__ import annotations

import atexit
import fcntl
import itertools
import os
import shlex
import shutil
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from pydantic import ValidationError

from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.model import files as model_files
from jaxsoftmax.training.schema import Section
from jaxsoftmax.training.sums import SUMS, listed, seal, sealed

from . import checkpoints

CONFIG = "config.json"  # resolved: every default written out; can be trained from again
METRICS = "metrics.jsonl"  # one object a pass over the training rows
SUMMARY = "summary.json"
CURVES = "curves.png"
CONFUSION = "confusion.png"
SCORES = "scores.json"
COUNTS = "confusion.csv"
REPORT = "report.html"
MODEL_CARD = "MODEL_CARD.md"
SWEEP = "sweep.csv"  # of the best run of a sweep
SWEEP_PICTURE = "sweep.png"
LOCK = ".lock"
NEW = ".new"  # ends the name of a run that will replace another
OF_SWEEPS = (SWEEP, SWEEP_PICTURE)  # the only files that some runs do not have
FILES = (
    CONFIG,
    METRICS,
    SUMMARY,
    CURVES,
    CONFUSION,
    SCORES,
    COUNTS,
    REPORT,
    MODEL_CARD,
    *OF_SWEEPS,
    model_files.ARRAYS,
    model_files.CARD,
    SUMS,  # written last: where it is, the run is complete, and each file is as it was
)


class Summary(Section):
    """The contents of ``summary.json``."""

    data_sha256: str
    rows: int
    features: int
    classes: int
    label: str
    class_shares: tuple[float, ...]
    test_rows: int
    test_loss: float
    test_accuracy: float
    majority_accuracy: float
    majority_loss: float
    l2: float
    iterations: int
    gradient_norm: float
    status: str
    compile_seconds: float
    train_seconds: float
    device: str
    versions: dict[str, str]


class Claim(NamedTuple):
    """A folder that is this process's alone.

    Attributes:
      folder: where the run is made.
      target: where it will lie: the same, unless an older run is being replaced.
      lock: the open file that holds the lock; it is closed at the end of a ``with``.
    """

    folder: Path
    target: Path
    lock: BinaryIO

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.lock.close()

    def publish(self) -> Path:
        """Puts a complete run in the place of the old one, and gives back where it is.

        The sums go first and come last, so that a mixture of both is never taken for a run; the
        checkpoints stay until then.
        """
        if self.folder != self.target:
            for name in reversed(FILES):
                (self.target / name).unlink(missing_ok=True)
            checkpoints.remove(self.target)
            for name in held(self.folder):
                (self.folder / name).replace(self.target / name)
            checkpoints.remove(self.folder)
            (self.folder / LOCK).unlink()
            self.folder.rmdir()
        else:
            checkpoints.remove(self.folder)
        self.lock.close()
        return self.target


def claim(out: Path | None, name: str, *, overwrite: bool) -> Claim:
    """Makes the folder of a run, ``runs/NAME-TIME`` unless one is given.

    Raises:
      InputError: it holds a run and ``overwrite`` is not set, or another process trains in it.
    """
    try:
        if out is None:
            return _new(Path("runs"), time.strftime(f"{name}-%Y%m%d-%H%M%S"))
        out = out.expanduser()
        found = [file for file in FILES if (out / file).exists()]
        if found and not overwrite:
            raise InputError(_taken(out, found[0]))
        folder = _beside(out) if found else out
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
        for file in FILES:
            (folder / file).unlink(missing_ok=True)
        checkpoints.remove(folder)
        return Claim(folder, out, lock)
    except OSError as error:
        place = error.filename or out
        raise InputError(f"{place}: cannot be used as a run folder: {error.strerror}") from None


def scratch() -> Claim:
    """A folder that goes with the process, for one that does not keep the run."""
    folder = Path(tempfile.mkdtemp(prefix="jaxsoftmax-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Claim(folder, folder, _lock(folder))


def claim_again(folder: Path) -> Claim:
    """Takes the folder of a run that has begun and not ended.

    Raises:
      InputError: there is no such run, it has ended, or another process trains in it.
    """
    check_unfinished(folder)
    try:
        lock = _lock(folder)
    except OSError as error:
        place = error.filename or folder
        raise InputError(f"{place}: cannot be used as a run folder: {error.strerror}") from None
    target = folder.with_name(folder.name.removesuffix(NEW))
    return Claim(folder, target if target.is_dir() else folder, lock)


def check_unfinished(folder: Path) -> None:
    """Refuses what is no run, and a run that has ended."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such run")
    if (folder / SUMS).exists():
        raise InputError(f"{folder}: is complete; there is nothing to resume")


def held(folder: Path) -> tuple[str, ...]:
    """The files that this run has, or should have."""
    return tuple(name for name in FILES if name not in OF_SWEEPS or (folder / name).exists())


def complete(folder: Path) -> None:
    """Vouches for all files of a run."""
    seal(folder, (name for name in held(folder) if name != SUMS))


def read_summary(folder: Path) -> Summary:
    """Reads ``summary.json``, and finds every file of the run as it was written.

    Raises:
      InputError: the run has not ended, or one of its files is damaged.
    """
    path = folder / SUMMARY
    if not (folder / SUMS).exists() and not path.exists():
        go_on = f"; go on with {resume_command(folder)}" if checkpoints.numbers(folder) else ""
        raise InputError(f"{folder}: holds no finished run ({SUMMARY} is not there){go_on}")
    absent = {SUMS, *OF_SWEEPS} - listed(folder).keys()
    contents = {name: sealed(folder, name) for name in FILES if name not in absent}
    try:
        return Summary.model_validate_json(contents[SUMMARY])
    except ValidationError as error:
        raise InputError(f"{path}: is damaged: {error.errors()[0]['msg']}") from None


def resume_command(folder: Path) -> str:
    """What to type to go on with a run."""
    return f"jaxsoftmax train --resume {shlex.quote(str(folder))}"


def _beside(out: Path) -> Path:
    """Where a run is made that will replace another."""
    return out.with_name(f"{out.name}{NEW}")


def _taken(out: Path, found: str) -> str:
    if not (out / SUMS).exists() and checkpoints.numbers(out):
        return (
            f"{out}: holds an unfinished run; go on with {resume_command(out)}, "
            f"choose another --out or add --overwrite"
        )
    return f"{out}: already holds a run ({found}); choose another --out or add --overwrite"


def _new(parent: Path, name: str) -> Claim:
    """A folder that did not exist: the second run of a second is ``NAME-2``."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return Claim(folder, folder, _lock(folder))
    raise AssertionError  # count has no end


def _lock(folder: Path) -> BinaryIO:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.fdopen(os.open(folder / LOCK, flags, 0o644), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise InputError(
            f"{folder}: another process is training in this folder; choose another --out"
        ) from None
    return file
