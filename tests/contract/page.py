"""Writes docs/contract.md from the contract's data: `python -m tests.contract.page`."""

# ruff: noqa: E501 - Markdown has lines of 120

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import BEHAVIOURS, ROWS
from .tables import Row, number

PAGE = Path(__file__).parents[2] / "docs" / "contract.md"

HEAD = """\
# The contract

<!-- Written by `python -m tests.contract.page`; edit tests/contract instead. -->

What every operation makes of hard inputs. The tables are the data that `tests/test_contract.py` runs, so they cannot
differ from what the library does.

## Rules

- A logit of −∞ is an impossible class: it contributes exactly 0, along any finite tangent.
- NaN and +∞ make NaN of their own row, and of no other: all others stay bit-identical.
- A row that is ignored, masked throughout or of weight 0 contributes exactly 0 to values, counts and derivatives,
  whatever its logits or features.
- A label that is no class cannot raise in compiled code, so it makes NaN of the loss *and* the gradient of its row.
- The mean of no rows is 0.
- Arithmetic is in float32 or wider, and losses are returned in it.

## Special values

Each row is checked in value (op by op, under `jit`, `vmap` and `shard_map`, with 64-bit types on, in float32 and
float64), first derivative by forward and by reverse mode, and, for numbers, second derivative by both mixed orders;
rows without NaN also under `jax_debug_nans`; all with strict dtype and rank promotion. The derivative is
that of the value: a matrix for softmax, diag(p) − p pᵀ, and log_softmax, 1 − p in each row. Logits are float32.

| | call | value | derivative | |
|--:|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = [_row(row) for row in sorted(ROWS, key=lambda row: row.number)]
    behaviours = [f"| {b.number} | {b.what} |" for b in sorted(BEHAVIOURS, key=lambda b: b.number)]
    lines = [*rows, "", "## Everything else", "", "| | what is so |", "|--:|---|", *behaviours]
    return HEAD + "\n".join(lines) + "\n"


def _row(row: Row) -> str:
    per_class = np.ndim(row.value) == 1
    derivative = f"p = {_values(row.p)}" if per_class else _values(row.jacobian)
    cells = (str(row.number), f"`{row.call}`", _values(row.value), derivative, row.note)
    return "| " + " | ".join(cells) + " |"


def _values(values: object) -> str:
    parts: Iterator[str] = (number(float(v)) for v in np.ravel(values))
    return "[" + ", ".join(parts) + "]" if np.ndim(values) else next(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
