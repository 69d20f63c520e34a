"""When a run is saved, and how many steps it makes between two looks at the clock.

A state is a value, so that it is written while the steps after it are made: one thread writes, one
state at a time. What the disk has to say is told at the next look, or at the end.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from jaxsoftmax.training.config.keys import CheckpointConfig

from . import checkpoints
from .state import RunState

QUICK, SLOW = 0.5, 2.0  # seconds that the steps of one call should take


class Saver:
    """Keeps the checkpoints of a run; nothing of it decides what the run computes.

    What it began to write is written when its ``with`` ends, however that ends.
    """

    def __init__(self, folder: Path, config: CheckpointConfig, steps: int | None) -> None:
        """Begins with a run that was last saved after ``steps``, or never."""
        self.folder = folder
        self.config = config
        self.saved = steps
        self.last = time.monotonic()
        self.stride = 1
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[Path] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        self._thread.shutdown()
        if kind is None:
            self.written()

    def due(self, steps: int) -> bool:
        """Whether the state after ``steps`` is to be saved.

        Raises:
          OSError: the one before could not be.
        """
        if self._writing is not None and self._writing.done():
            self.written()
        if self.saved is None:
            return True
        every = self.config.every_steps
        return (every is not None and steps - self.saved >= every) or (
            time.monotonic() - self.last >= 60 * self.config.every_minutes
        )

    def save(self, steps: int, state: RunState) -> None:
        """Begins to write a state of NumPy's arrays, unless it has been; first comes the one before.

        Raises:
          OSError: the one before could not be written.
        """
        self.written()
        if self.saved != steps:
            self._writing = self._thread.submit(
                checkpoints.save, self.folder, steps, state, self.config.keep
            )
            self.saved, self.last = steps, time.monotonic()

    def written(self) -> None:
        """Waits for what is being written.

        Raises:
          OSError: it cannot be; its ``filename`` says where. All older ones are as before.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def ahead(self, steps: int) -> int:
        """How many steps may be made before something has to be looked at."""
        every = self.config.every_steps
        if every is None or self.saved is None:
            return self.stride
        return min(self.stride, every - (steps - self.saved) % every)

    def took(self, seconds: float) -> None:
        """Makes more steps at a time, or fewer: a signal should not wait for long."""
        if seconds < QUICK:
            self.stride *= 2
        elif seconds > SLOW:
            self.stride = max(1, self.stride // 2)
