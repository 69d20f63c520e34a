"""What `check_rules` found: one row per check, as data, as text and as a table."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any, Literal

Status = Literal["ok", "wrong", "undecided", "not supported"]


class RulesError(AssertionError):
    """A derivative rule does not hold; the message is the report."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes:
      mode: what was checked, and against what.
      status: "ok", "wrong", "undecided" (finite differences do not settle, as at a kink), or
        "not supported" (JAX cannot do this with the kind of rule the function has).
      error: the largest error, in units of what rounding explains; the limit is 1.
      element: the element with that error.
      expected: its right value; NaN where nothing was compared.
      got: its value by the rule; likewise.
      note: what else there is to say.
    """

    mode: str
    status: Status
    error: float = 0.0
    element: str = ""
    expected: float = float("nan")
    got: float = float("nan")
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        """The row of a table: the check, its status, its margin, and what is wrong."""
        margin = f"{self.error:.2g}" if self.status in ("ok", "wrong") else ""
        if self.status != "wrong":
            return (self.mode, self.status, margin, self.note)
        off = abs(self.got - self.expected)
        wrong = f"expected {self.expected:.6g}, got {self.got:.6g}, off by {off:.2g}"
        return (self.mode, self.status, margin, f"{self.element}: {wrong}")


_HEADINGS = ("check", "result", "error / limit", "worst element")
_COLOURS = {"ok": "green", "wrong": "bold red", "undecided": "yellow", "not supported": "dim"}


@dataclasses.dataclass(frozen=True)
class RulesReport:
    """All checks of one function. Print it, with `print` or with rich."""

    name: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check is wrong or undecided."""
        return not self.failures

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that are wrong or undecided."""
        return tuple(check for check in self.checks if check.status in ("wrong", "undecided"))

    def raise_on_failure(self) -> None:
        """Raise `RulesError` with the report as message, unless everything holds."""
        if not self.ok:
            raise RulesError(str(self))

    def headline(self) -> str:
        """The result in a sentence."""
        if self.ok:
            done = sum(check.status == "ok" for check in self.checks)
            return f"{self.name}: the rules hold in {done} checks."
        modes = "; ".join(check.mode for check in self.failures)
        return f"{self.name}: {len(self.failures)} of {len(self.checks)} checks fail: {modes}."

    def __str__(self) -> str:
        rows = [_HEADINGS, *(check.cells() for check in self.checks)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([self.headline(), "", *lines])

    def __rich__(self) -> Any:
        # Only rich calls this, so rich is there; nothing else here needs it.
        table = importlib.import_module("rich.table").Table(title=self.headline())
        escape = importlib.import_module("rich.markup").escape
        for heading in _HEADINGS:
            table.add_column(heading)
        for check in self.checks:
            table.add_row(*map(escape, check.cells()), style=_COLOURS[check.status])
        return table
