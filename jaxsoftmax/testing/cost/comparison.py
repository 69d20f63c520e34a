"""What `compare` found: one row per function and mode, as data, text, table and picture."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

from . import plot
from .measurement import Measurement
from .modes import Mode
from .units import count, duration, size

HEADINGS = ("mode", "function", "time", "speed", "compile", "temp", "residuals", "flops", "error")
_COLOURS = {"ok": "", "wrong": "bold red", "not supported": "dim"}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All measurements. Print it, with `print` or with rich; `plot` it; or read it.

    Attributes:
      baseline: the function that the column "speed" divides by.
      setting: the arguments and the device.
      measurements: one per mode and function.
    """

    baseline: str
    setting: str
    measurements: tuple[Measurement, ...]

    def of(self, name: str, mode: Mode) -> Measurement:
        """The measurement of one function in one mode."""
        for row in self.measurements:
            if (row.name, row.mode) == (name, mode):
                return row
        raise KeyError(f"{name!r} was not measured in the mode {mode!r}.")

    def title(self) -> str:
        """What was measured, in a sentence."""
        return f"{self.setting}; speed is against {self.baseline}, with a 95 % interval."

    def rows(self) -> list[tuple[str, ...]]:
        """The cells of the table, as text."""
        return [_cells(row, self.baseline) for row in self.measurements]

    def notes(self) -> list[str]:
        """Why what is missing is missing."""
        return [f"{row.name}, {row.mode}: {row.note}" for row in self.measurements if row.note]

    def __str__(self) -> str:
        lines = [HEADINGS, *self.rows()]
        widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        return "\n".join([self.title(), "", *text, *self.notes()])

    def __rich__(self) -> Any:
        # Only rich calls this, so rich is there; nothing else here needs it.
        escape = importlib.import_module("rich.markup").escape
        notes = escape("\n".join(self.notes())) or None
        table = importlib.import_module("rich.table").Table(
            title=self.title(),
            caption=notes,
            caption_justify="left",
            box=importlib.import_module("rich.box").SIMPLE_HEAD,
        )
        for heading in HEADINGS:
            left = heading in HEADINGS[:2]
            table.add_column(heading, justify="left" if left else "right", no_wrap=True)
        last = None
        for row, cells in zip(self.measurements, self.rows(), strict=True):
            if last not in (None, row.mode):
                table.add_section()
            table.add_row(*map(escape, cells), style=_COLOURS[row.status])
            last = row.mode
        return table

    def plot(self, path: str | Path | None = None) -> Any:
        """Bars of time and of memory, one pair of panels a mode, with matplotlib.

        Args:
          path: where to write the picture; it is not written when left out.

        Returns:
          The matplotlib figure.

        Raises:
          ModuleNotFoundError: matplotlib is not installed.
        """
        return plot.draw(self.setting, self.baseline, self.measurements, path)


def _cells(row: Measurement, baseline: str) -> tuple[str, ...]:
    if row.cost is None:
        return (row.mode, row.name, "", row.status, "", "", "", "", "")
    speed = "1" if row.name == baseline else str(row.against.get(baseline, ""))
    return (
        row.mode,
        row.name,
        duration(row.seconds),
        speed if row.status == "ok" else row.status,
        duration(row.cost.compile_seconds),
        size(row.cost.temp_bytes),
        size(row.cost.residual_bytes),
        count(row.cost.flops),
        f"{row.error:.1e}",
    )
