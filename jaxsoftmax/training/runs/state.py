"""The state of a run is one value: from it and the data, everything that follows is determined.

So a run that is saved, loaded and continued ends with the same bits as one that was not: there is
no clock, no generator of random numbers and no position anywhere else.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.data import Columns
from jaxsoftmax.training.solvers import Params, State


class Position(NamedTuple):
    """How far a run has come.

    Attributes:
      stage: which problem of the run's plan is being solved, from 0.
      epoch: passes over the training rows that are done in this stage. A step of a solver that
        needs all rows is a pass.
      step: steps done in the pass that has begun.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0


class Record(NamedTuple):
    """What is told of a pass over the training rows; one line of ``metrics.jsonl``.

    It holds no times, so that the same run writes the same lines.
    """

    stage: int
    epoch: int
    l2: float
    objective: float
    gradient_norm: float
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float


class RunState(NamedTuple):
    """All that a run is between two steps.

    Attributes:
      config: what was asked for, with every default filled in.
      fingerprint: that of the `Dataset`; a run is only continued on the same rows.
      columns: the encoder of the features.
      classes: the names of the C classes.
      solver: the solver's own state, a pytree; ``solver.params`` are the parameters now.
      best: the parameters that the run would keep if it ended here, and their validation loss.
      position: where in the plan the next step is.
      records: of all passes so far.
    """

    config: RunConfig
    fingerprint: str
    columns: Columns
    classes: tuple[str, ...]
    solver: State
    best: Best
    position: Position
    records: tuple[Record, ...]

    @property
    def leaves(self) -> Leaves:
        """The part that is arrays."""
        return Leaves(self.solver, self.best.params)


class Leaves(NamedTuple):
    """The arrays of a `RunState`, or their shapes and types."""

    solver: State
    best: Params


class Best(NamedTuple):
    """The parameters to keep, and why."""

    params: Params
    validation_loss: float
