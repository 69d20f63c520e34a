"""The picture of speeds: bars around 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator

from bench.plot_style import FASTER, INK, SLOWER, UNSURE
from bench.results import Entry, Result
from jaxsoftmax.testing.cost.timing import Ratio


def ratios(result: Result) -> Figure:
    """A bar for each case and mode: against automatic; a diamond: against the best peer."""
    entries = [entry for entry in result.entries if entry.speed()]
    lines = _lines(entries)
    height = 1.5 + 0.235 * len(lines)
    figure = Figure(figsize=(10.5, height))
    axes = figure.add_axes((0.31, 0.6 / height, 0.60, 1 - 1.55 / height))
    low, high = _span(entries)
    axes.set_xscale("log", base=2)
    axes.set_xlim(low, high)
    axes.set_ylim(len(lines) - 0.4, -0.8)
    axes.axvspan(low, 1, color="#fbf1ea", zorder=0, lw=0)
    axes.axvspan(1, high, color="#eef4fb", zorder=0, lw=0)
    for place, line in enumerate(lines):
        if isinstance(line, str):
            axes.text(
                -0.5,
                place,
                line,
                transform=axes.get_yaxis_transform(),
                va="center",
                fontsize=10,
                fontweight="bold",
                color=INK,
            )
            continue
        _speed_bar(axes, place, line)
    axes.axvline(1, color=INK, lw=1, zorder=4)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x", color="white", lw=1, zorder=1)
    axes.set_yticks([])
    axes.tick_params(axis="x", length=0, labelsize=9, colors=INK)
    axes.spines[:].set_visible(False)
    figure.text(
        0.02,
        1 - 0.3 / height,
        "How many times as fast are the hand-written rules?",
        fontsize=14,
        fontweight="bold",
        va="center",
        color=INK,
    )
    figure.text(
        0.02, 1 - 0.58 / height, result.machine_sentence(), fontsize=9, va="center", color="#6b737c"
    )
    _legend(figure, 1 - 0.8 / height)
    return figure


def _lines(entries: Sequence[Entry]) -> list[Entry | str]:
    lines: list[Entry | str] = []
    for entry in entries:
        if not lines or entry.title != _title(lines[-1]):
            lines.append(entry.title)
        lines.append(entry)
    return lines


def _title(line: Entry | str) -> str:
    return line if isinstance(line, str) else line.title


def _span(entries: Sequence[Entry]) -> tuple[float, float]:
    ends = [end for entry in entries for s in _both(entry) if s for end in (s.low, s.high)]
    return min(0.42, 0.85 * min(ends, default=1)), max(2.4, 1.5 * max(ends, default=1))


def _both(entry: Entry) -> tuple[Ratio | None, Ratio | None]:
    peer = entry.best_peer()
    return entry.speed(), entry.speed(peer.contender) if peer else None


def _speed_bar(axes: Any, place: int, entry: Entry) -> None:
    speed, peer = _both(entry)
    assert speed is not None
    sure = not speed.low <= 1 <= speed.high
    colour = (FASTER if speed.estimate > 1 else SLOWER) if sure else UNSURE
    axes.barh(place, speed.estimate - 1, left=1, height=0.62, color=colour, zorder=2)
    axes.plot([speed.low, speed.high], [place] * 2, color=INK, lw=1, zorder=3)
    if peer:
        axes.plot([peer.low, peer.high], [place] * 2, color="#b0771d", lw=1, zorder=5)
        axes.plot(
            peer.estimate, place, "D", ms=5, color="#f2b134", mec="#7a4f0a", mew=0.8, zorder=6
        )
    name = f"{entry.label}  ·  {entry.mode}"
    axes.text(
        -0.015,
        place,
        name,
        transform=axes.get_yaxis_transform(),
        ha="right",
        va="center",
        fontsize=8.5,
        color=INK,
    )
    axes.text(
        1.012,
        place,
        f"{speed.estimate:.2f}×",
        transform=axes.get_yaxis_transform(),
        va="center",
        fontsize=8.5,
        color=colour if sure else "#6b737c",
        fontweight="bold" if sure else "normal",
    )


def _legend(figure: Figure, height: float) -> None:
    figure.legend(
        handles=[
            Patch(color=FASTER, label="faster than automatic"),
            Patch(color=SLOWER, label="slower"),
            Patch(color=UNSURE, label="interval holds 1"),
            Line2D(
                [],
                [],
                marker="D",
                color="#b0771d",
                mfc="#f2b134",
                mec="#7a4f0a",
                ms=5,
                lw=1,
                label="against the best peer",
            ),
        ],
        loc="center left",
        bbox_to_anchor=(0.3, height),
        ncols=4,
        frameon=False,
        fontsize=8.5,
    )
