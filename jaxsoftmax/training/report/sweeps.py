"""What came of a sweep: a table, a picture, and the best lines of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from jaxsoftmax.training.sweep import Sweep
from jaxsoftmax.training.sweep.train import Outcome

from .charts import styled
from .pictures import DPI, INK, VALIDATION, readable

BEST = 10  # settings that are told
SETTINGS = ("path", "seed", "class_weights", "l2", "learning_rate")
AXES = ("learning_rate", "l2")  # of the picture, the first that varies


def table(sweep: Sweep) -> str:
    """All runs as CSV, in the order of the grid."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(Outcome._fields)
    writer.writerows(sweep.outcomes)
    return out.getvalue()


def lines(sweep: Sweep, by: str) -> str:
    """The best settings: those that differ, and the mean and range of the score over the seeds."""
    outcomes = sweep.outcomes
    varied = [
        name
        for name in SETTINGS
        if name != "seed" and len({getattr(outcome, name) for outcome in outcomes}) > 1
    ]
    settled: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        key = tuple(_text(getattr(outcome, name)) for name in varied)
        settled.setdefault(key, []).append(outcome)
    rows = []
    for key, runs in settled.items():
        values = [getattr(run, by) for run in runs]
        told = f"{np.mean(values):.4f}"
        if len(values) > 1:
            told += f" ({min(values):.4f} to {max(values):.4f})"
        rows.append((float(np.mean(values)), [*key, told, ", ".join({r.status for r in runs})]))
    rows.sort(key=lambda row: row[0], reverse=by == "validation_accuracy")
    shown = [[*varied, by, "status"], *(row for _, row in rows[:BEST])]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    found = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in shown]
    if len(rows) > BEST:
        found.append(f"and {len(rows) - BEST} more in sweep.csv")
    return "\n".join(line.rstrip() for line in found)


def picture(sweep: Sweep, by: str) -> Figure:
    """The score against the learning rate or the penalty; a line for each of the other settings."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    what = by.replace("_", " ")
    varied = [a for a in AXES if len({getattr(o, a) for o in sweep.outcomes}) > 1]
    along = varied[0] if varied else AXES[1]
    axes = styled(figure, f"{len(sweep.outcomes)} runs", along.replace("_", " "), what)
    others = [name for name in SETTINGS if name not in (along, "seed")]
    series: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in sweep.outcomes:
        key = tuple(_text(getattr(outcome, name)) for name in others)
        series.setdefault(key, []).append(outcome)
    differ = [i for i in range(len(others)) if len({key[i] for key in series}) > 1]
    names = [", ".join(f"{others[i]} {key[i]}" for i in differ) for key in series]
    for name, outcomes in zip(readable(names), series.values(), strict=True):
        x = np.array(sorted({getattr(outcome, along) or 0.0 for outcome in outcomes}))
        runs = [[getattr(o, by) for o in outcomes if (getattr(o, along) or 0.0) == v] for v in x]
        (line,) = axes.plot(
            x, [np.mean(run) for run in runs], marker="o", markersize=3, label=name or None
        )
        lows, highs = ([edge(run) for run in runs] for edge in (min, max))
        axes.fill_between(x, lows, highs, color=line.get_color(), alpha=0.15, linewidth=0)
    positive = all((getattr(o, along) or 0.0) > 0 for o in sweep.outcomes)
    axes.set_xscale("log" if positive else "linear")
    best = getattr(sweep.best, along) or 0.0
    axes.axvline(best, color=VALIDATION, linewidth=1, linestyle=(0, (4, 3)))
    if differ and len(series) <= 12:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return figure


def save(folder: Path, sweep: Sweep, by: str, files: Sequence[str]) -> None:
    """Writes the table and the picture."""
    csv_name, png_name = files
    (folder / csv_name).write_text(table(sweep), encoding="utf-8")
    picture(sweep, by).savefig(folder / png_name, dpi=DPI)


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return Path(value).name if isinstance(value, str) and "/" in value else str(value)
