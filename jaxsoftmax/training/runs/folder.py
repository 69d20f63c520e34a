"""The folder of a run: what lies in it, and how one trainer alone gets it.

A folder is claimed by a lock that the operating system gives back when the process ends, however it
ends. ``--overwrite`` trains in ``NAME.new`` beside the old run, which is replaced when the new one
is complete, and not before.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import time
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.model import files as model_files
from jaxsoftmax.training.schema import Section

CONFIG = "config.json"  # resolved: every default written out; can be trained from again
METRICS = "metrics.jsonl"  # one object a pass over the training rows
SUMMARY = "summary.json"  # written last: where it is, the run is complete
CURVES = "curves.png"
CONFUSION = "confusion.png"
SCORES = "scores.json"
COUNTS = "confusion.csv"
REPORT = "report.html"
MODEL_CARD = "MODEL_CARD.md"
SWEEP = "sweep.csv"  # of the best run of a sweep
SWEEP_PICTURE = "sweep.png"
LOCK = ".lock"
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
    SWEEP,
    SWEEP_PICTURE,
    model_files.ARRAYS,
    model_files.CARD,
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
      lock: the open file that holds the lock.
    """

    folder: Path
    target: Path
    lock: int

    def publish(self) -> Path:
        """Puts a complete run in the place of the old one, and gives back where it is."""
        if self.folder != self.target:
            for name in FILES:
                (self.target / name).unlink(missing_ok=True)
            for path in self.folder.iterdir():
                if path.name != LOCK:
                    path.replace(self.target / path.name)
            (self.folder / LOCK).unlink()
            self.folder.rmdir()
        os.close(self.lock)
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
            raise InputError(
                f"{out}: already holds a run ({found[0]}); choose another --out or add --overwrite"
            )
        folder = out.with_name(f"{out.name}.new") if found else out
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
        for file in FILES:
            (folder / file).unlink(missing_ok=True)
        return Claim(folder, out, lock)
    except OSError as error:
        place = error.filename or out
        raise InputError(f"{place}: cannot be used as a run folder: {error.strerror}") from None


def read_summary(folder: Path) -> Summary:
    """Reads ``summary.json``."""
    path = folder / SUMMARY
    try:
        return Summary.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{folder}: holds no finished run ({SUMMARY} is not there)") from None
    except ValidationError as error:
        raise InputError(f"{path}: is damaged: {error.errors()[0]['msg']}") from None


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


def _lock(folder: Path) -> int:
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(
            f"{folder}: another process is training in this folder; choose another --out"
        ) from None
    return handle
