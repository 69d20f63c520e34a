"""What one function costs in one mode."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping
from typing import Literal

from .modes import Mode
from .programs import Cost
from .timing import Ratio, median_interval

Status = Literal["ok", "wrong", "not supported"]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One function in one mode.

    Attributes:
      name: the function.
      mode: how it was differentiated.
      status: "ok", "wrong" (its result is off by more than `tolerance`), or "not supported".
      samples: seconds per call, one number a round; the rounds of all functions are the same.
      against: by name, how many times as long each other right function takes, with an interval.
      cost: the compiler's account of the program.
      error: off from float64 by so much, relative to the largest number of an array.
      tolerance: the limit of it.
      note: why it is not supported.
    """

    name: str
    mode: Mode
    status: Status
    samples: tuple[float, ...] = ()
    against: Mapping[str, Ratio] = dataclasses.field(default_factory=dict)
    cost: Cost | None = None
    error: float = math.nan
    tolerance: float = math.nan
    note: str = ""

    @property
    def seconds(self) -> float:
        """The median time of a call."""
        return statistics.median(self.samples) if self.samples else math.nan

    @property
    def seconds_interval(self) -> tuple[float, float]:
        """Holds the median with 95 % confidence."""
        return median_interval(self.samples) if self.samples else (math.nan, math.nan)
