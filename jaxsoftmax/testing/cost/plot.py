"""The picture of a comparison."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .measurement import Measurement
from .units import duration, size

_BASELINE, _OTHERS, _WRONG = "#9aa0a6", "#1f77b4", "#d62728"


def draw(
    setting: str, baseline: str, measurements: Sequence[Measurement], path: str | Path | None
) -> Any:
    """One row of panels a mode: time with its interval, and memory beyond arguments and results."""
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "The plot is drawn with matplotlib, which is not installed. "
            "Write: pip install matplotlib"
        ) from missing
    modes = list(dict.fromkeys(row.mode for row in measurements))
    names = len({row.name for row in measurements})
    height = 0.9 + len(modes) * (0.55 + 0.34 * names)
    figure = figures.Figure(figsize=(10, height), layout="constrained")
    panels = figure.subplots(len(modes), 2, squeeze=False)
    figure.suptitle(setting, fontsize=10, color="#444444")
    for (left, right), mode in zip(panels, modes, strict=True):
        rows = [row for row in measurements if row.mode == mode]
        colours = [_colour(row, baseline) for row in rows]
        done = [row.samples != () for row in rows]
        times = [row.seconds if row.samples else 0.0 for row in rows]
        spans = [row.seconds_interval if row.samples else (0.0, 0.0) for row in rows]
        whiskers = [
            [time - low for time, (low, _) in zip(times, spans, strict=True)],
            [high - time for time, (_, high) in zip(times, spans, strict=True)],
        ]
        _bars(left, rows, times, colours, [_time(row) for row in rows], whiskers)
        temp = [float(row.cost.temp_bytes or 0) if row.cost else 0.0 for row in rows]
        _bars(right, rows, temp, colours, _sizes(temp, done), None)
        left.set_title(f"{mode}: time of a call", loc="left", fontsize=11)
        right.set_title(f"{mode}: scratch memory", loc="left", fontsize=11)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _bars(
    axes: Any,
    rows: Sequence[Measurement],
    values: list[float],
    colours: list[str],
    labels: list[str],
    whiskers: list[list[float]] | None,
) -> None:
    places = list(range(len(rows)))
    grey = {"ecolor": "#333333", "elinewidth": 1, "capsize": 2}
    axes.barh(places, values, color=colours, height=0.66, xerr=whiskers, error_kw=grey)
    ends = values if whiskers is None else [v + w for v, w in zip(values, whiskers[1], strict=True)]
    room = max(ends, default=0.0) or 1.0
    for place, end, label in zip(places, ends, labels, strict=True):
        axes.text(end + 0.015 * room, place, label, va="center", fontsize=9)
    axes.set_xlim(0, 1.28 * room)
    axes.set_yticks(places, [row.name for row in rows])
    axes.invert_yaxis()
    axes.xaxis.set_visible(False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _sizes(values: list[float], done: list[bool]) -> list[str]:
    return [size(value) if ran else "" for value, ran in zip(values, done, strict=True)]


def _time(row: Measurement) -> str:
    if row.status == "not supported":
        return row.status
    return duration(row.seconds) + (" (wrong)" if row.status == "wrong" else "")


def _colour(row: Measurement, baseline: str) -> str:
    if row.status == "wrong":
        return _WRONG
    return _BASELINE if row.name == baseline else _OTHERS
