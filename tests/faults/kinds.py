"""The kinds of faults: what is tried, how often in full, and how often in every test run."""

from __future__ import annotations

from typing import NamedTuple

from . import damaging, disk, inputs, limits, processes, resuming, versions
from .scene import STEPS, Fault


class Kind(NamedTuple):
    """A kind of fault.

    Attributes:
      name: to ask for it.
      what: a line of the table.
      fault: does it to a `Scene`, as often as its budget says.
      full: the budget of ``./run faults``.
      few: the budget of the test suite; 0 for what takes too long there.
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
    Kind("killed", "`kill -9` at every system call of a save", disk.killed, 1, 1),
    Kind("training", "`kill -9` of a trainer, again and again", processes.killed_training, 40, 2),
    Kind("signals", "SIGINT, SIGTERM, SIGHUP; a second signal", processes.asked, 24, 4),
    Kind("finished", "damaged file of a finished run", damaging.finished, 3000, 200),
    Kind("model", "damaged file of a model, read alone", damaging.model, 2000, 200),
    Kind("checkpoints", "damaged file of a checkpoint", damaging.checkpointed, 2000, 60),
    Kind("misplaced", "misplaced, empty, linked, half folders", damaging.misplaced, 1, 1),
    Kind("calls", "every system call of a save fails, each error", disk.calls, 5, 1),
    Kind("full", "disk full at a random byte of a run", disk.full, 50, 3),
    Kind("memory", "memory ends while saving or reading", limits.saving, 200, 10),
    Kind("limited", "a trainer with 30 to 150 % of its memory", limits.training, 12, 0),
    Kind("larger", "10 GB of features, 1 GB of memory", limits.larger, 10_000, 0),
    Kind("together", "a second trainer in the folder", processes.together, 1, 1),
    Kind("second", "runs that begin in the same second", versions.same_second, 50, 5),
    Kind("clocks", "clocks that jump, times of files", versions.clock, 20, 2),
    Kind("versions", "checkpoints of other versions: refused", versions.skewed, 1, 1),
    Kind("kept", "checkpoints of each format that there was", versions.kept, 1, 1),
    Kind("changed", "config or data changed before resuming", resuming.changed, 1, 1),
    Kind("rewritten", "files that change while read or trained on", inputs.rewritten, 6, 2),
    Kind("odd", "odd and damaged files of data", inputs.odd, 1000, 0),
    Kind("labels", "labels of every type", inputs.labels, 1, 1),
    Kind("hostile", "files that mean harm", inputs.hostile, 5, 1),
    Kind("extremes", "settings at the end of what makes sense", inputs.extremes, 20, 1),
    Kind("not finite", "NaN or infinity in a row", resuming.not_finite, 60, 6),
    Kind("separable", "10,000 steps on separable rows", inputs.separable, 10_000, 200),
    Kind("optimum", "the optimum of scikit-learn's, within 1e-6", inputs.optimum, 5, 0),
)
