"""The kinds of faults: what is tried, how often in full, and how often in every test run."""

from __future__ import annotations

from typing import NamedTuple

from . import damaging, disk, processes, resuming
from .scene import STEPS, Fault


class Kind(NamedTuple):
    """A kind of fault.

    Attributes:
      name: to ask for it.
      what: a line of the table.
      fault: does it ``budget`` times to a `Scene`.
      full: the budget of ``./run faults``.
      few: the budget of the test suite.
    """

    name: str
    what: str
    fault: Fault
    full: int
    few: int


KINDS = (
    Kind("once", f"resumed at every step of {STEPS}: same SHA-256", resuming.once, STEPS, STEPS),
    Kind("twice", "resumed twice in a row: same SHA-256", resuming.twice, 100, 10),
    Kind("saving", "`kill -9` while saving", processes.killed_saving, 200, 10),
    Kind("training", "`kill -9` of a trainer, again and again", processes.killed_training, 40, 2),
    Kind("signals", "SIGINT, SIGTERM, SIGHUP; a second signal", processes.asked, 24, 4),
    Kind("finished", "damaged file of a finished run", damaging.finished, 3000, 200),
    Kind("model", "damaged file of a model, read alone", damaging.model, 2000, 200),
    Kind("checkpoints", "damaged file of a checkpoint", damaging.checkpointed, 2000, 60),
    Kind("misplaced", "misplaced, empty, linked, half folders", damaging.misplaced, 1, 1),
    Kind("calls", "every system call of a save fails, each error", disk.calls, 5, 1),
    Kind("full", "disk full at a random byte of a run", disk.full, 50, 3),
    Kind("together", "a second trainer in the folder", processes.together, 1, 1),
    Kind("changed", "config or data changed before resuming", resuming.changed, 1, 1),
    Kind("not finite", "NaN or infinity in a row", resuming.not_finite, 60, 6),
)
