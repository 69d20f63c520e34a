"""When a run is saved, and how many steps it makes between two looks at the clock."""

from __future__ import annotations

import time
from pathlib import Path

from jaxsoftmax.training.config.keys import CheckpointConfig

from . import checkpoints
from .state import RunState

QUICK, SLOW = 0.5, 2.0  # seconds that the steps of one call should take


class Saver:
    """Keeps the checkpoints of a run; nothing of it decides what the run computes."""

    def __init__(self, folder: Path, config: CheckpointConfig, steps: int | None) -> None:
        """Begins with a run that was last saved after ``steps``, or never."""
        self.folder = folder
        self.config = config
        self.saved = steps
        self.last = time.monotonic()
        self.stride = 1

    def due(self, steps: int) -> bool:
        """Whether the state after ``steps`` is to be saved."""
        if self.saved is None:
            return True
        every = self.config.every_steps
        return (every is not None and steps - self.saved >= every) or (
            time.monotonic() - self.last >= 60 * self.config.every_minutes
        )

    def save(self, steps: int, state: RunState) -> Path:
        """Saves a state, unless it has been."""
        if self.saved == steps:
            return self.folder / checkpoints.FOLDER / f"{steps:08d}"
        place = checkpoints.save(self.folder, steps, state, self.config.keep)
        self.saved, self.last = steps, time.monotonic()
        return place

    def ahead(self, steps: int) -> int:
        """How many steps may be made before something has to be looked at."""
        every = self.config.every_steps
        if every is None or self.saved is None:
            return self.stride
        return min(self.stride, self.saved + every - steps)

    def took(self, seconds: float) -> None:
        """Makes more steps at a time, or fewer: a signal should not wait for long."""
        if seconds < QUICK:
            self.stride *= 2
        elif seconds > SLOW:
            self.stride = max(1, self.stride // 2)
