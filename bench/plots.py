"""The pictures of a result: speeds around 1, time and memory against classes, and the roofline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench.results import Entry, Result
from jaxsoftmax.testing._timing import Ratio

COLOURS = {
    "automatic": "#8d949c",
    "custom": "#1463b5",
    "custom_vjp": "#7cb5e8",
    "unfused": "#5aa9a6",
    "jax.nn": "#e58a1f",
    "optax": "#3f9b52",
    "torch": "#c8433a",
    "tokamax": "#8459b5",
    "jax-cce": "#8a6446",
}
FASTER, SLOWER, UNSURE, INK, FAINT = "#1463b5", "#d1622b", "#a9b0b8", "#2b3036", "#e3e6ea"


def draw(result: Result, folder: Path, stem: str) -> list[Path]:
    """Draws all pictures beside the result file."""
    pictures = {"ratios": ratios, "classes": classes, "roofline": roofline}
    paths = []
    for name, picture in pictures.items():
        path = folder / f"{stem}-{name}.png"
        picture(result).savefig(path, dpi=150, facecolor="white")
        paths.append(path)
    return paths


# ------------------------------------------------------------------------------------------------
# Speeds
# ------------------------------------------------------------------------------------------------


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
        _speed_bar(axes, place, line, high)
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


def _speed_bar(axes: Any, place: int, entry: Entry, edge: float) -> None:
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


# ------------------------------------------------------------------------------------------------
# Time and memory against the number of classes
# ------------------------------------------------------------------------------------------------


def classes(result: Result) -> Figure:
    """A column for each op: nanoseconds and scratch bytes per logit, of all contenders."""
    chosen = [e for e in result.entries if e.mode == "value_and_grad" and e.dtype == "float32"]
    ops = [
        op
        for op in dict.fromkeys(entry.op for entry in chosen)
        if len({entry.shape[-1] for entry in chosen if entry.op == op}) > 1
    ] or list(dict.fromkeys(entry.op for entry in chosen))
    figure = Figure(figsize=(2.1 + 2.35 * len(ops), 6.4), layout="constrained")
    figure.suptitle(
        "value_and_grad in float32, against the number of classes",
        x=0.01,
        ha="left",
        fontsize=14,
        fontweight="bold",
        color=INK,
    )
    panels = figure.subplots(2, len(ops), sharex=True, sharey="row", squeeze=False)
    shown: dict[str, Any] = {}
    for column, op in enumerate(ops):
        entries = _one_per_width([entry for entry in chosen if entry.op == op])
        panels[0, column].set_title(entries[0].title, fontsize=10, loc="left", color=INK)
        for axes, measure in zip(panels[:, column], (_nanoseconds, _scratch), strict=True):
            shown |= _curves(axes, entries, measure)
        panels[1, column].set_xlabel("classes", fontsize=9, color=INK)
    panels[0, 0].set_ylabel("time, ns per logit", fontsize=9, color=INK)
    panels[1, 0].set_ylabel("scratch memory, bytes per logit", fontsize=9, color=INK)
    order = [name for name in COLOURS if name in shown]
    figure.legend(
        [shown[name] for name in order],
        order,
        loc="outside lower left",
        ncols=len(order),
        frameon=False,
        fontsize=9,
    )
    return figure


def _one_per_width(entries: Sequence[Entry]) -> list[Entry]:
    """Of the cases with the same number of classes the largest, in the order of the classes."""
    largest = {e.shape[-1]: e for e in sorted(entries, key=lambda entry: entry.logits)}
    return [largest[width] for width in sorted(largest)]


def _nanoseconds(entry: Entry, contender: str) -> float:
    return entry.rows[contender].seconds / entry.logits * 1e9


def _scratch(entry: Entry, contender: str) -> float | None:
    temp = entry.rows[contender].number("temp_bytes")
    return None if temp is None else max(temp / entry.logits, 1e-3)


def _curves(axes: Any, entries: Sequence[Entry], measure: Any) -> dict[str, Any]:
    shown = {}
    for name, colour in COLOURS.items():
        points = [
            (entry.shape[-1], measure(entry, name))
            for entry in entries
            if name in entry.rows and entry.rows[name].right
        ]
        points = [(x, y) for x, y in points if y is not None]
        if not points:
            continue
        strong = name == "custom"
        (shown[name],) = axes.plot(
            *zip(*points, strict=True),
            marker="o",
            ms=5 if strong else 3.5,
            color=colour,
            lw=2.4 if strong else 1.4,
            ls="--" if name == "custom_vjp" else "-",
            zorder=5 if strong else 6 if name == "custom_vjp" else 3,
            label=name,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    _quiet(axes)
    return shown


def _quiet(axes: Any) -> None:
    axes.grid(which="major", color=FAINT, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b8bec5")
    axes.tick_params(which="both", colors=INK, labelsize=8.5, length=0)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())


# ------------------------------------------------------------------------------------------------
# The roofline
# ------------------------------------------------------------------------------------------------


def roofline(result: Result) -> Figure:
    """Operations a second against operations a byte, below what the machine did at best."""
    figure = Figure(figsize=(8.4, 5.6))
    axes = figure.add_axes((0.09, 0.11, 0.87, 0.76))
    copy = result.machine["copy_bytes_per_second"] / 1e9
    product = result.machine["matmul_flops_per_second"] / 1e9
    points = [
        (entry, name, entry.rows[name].number("flops_per_byte"), rate)
        for entry in result.entries
        for name in ("automatic", "custom")
        if name in entry.rows
        and entry.rows[name].right
        and (rate := entry.rows[name].number("gigaflops_per_second"))
    ]
    intensities = [x for _, _, x, _ in points if x]
    low, high = 0.5 * min(intensities, default=1), 2 * max([*intensities, 4 * product / copy])
    axes.plot([low, product / copy, high], [low * copy, product, product], color=INK, lw=1.6)
    top = f"float32 matrix product, {product:.3g} GFLOP/s"
    axes.text(0.97 * high, product * 1.1, top, ha="right", fontsize=9, color=INK)
    axes.fill_between(
        [low, product / copy, high], [low * copy, product, product], 1e-9, color="#f4f7fa", zorder=0
    )
    for name in ("automatic", "custom"):
        own = [(x, y) for _, who, x, y in points if who == name and x]
        if own:
            axes.scatter(
                *zip(*own, strict=True),
                s=34,
                color=COLOURS[name],
                label=name,
                alpha=0.85,
                edgecolor="white",
                lw=0.6,
                zorder=4 if name == "custom" else 3,
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    rates = [y for *_, y in points]
    axes.set_ylim(0.5 * min([*rates, low * copy]), 2 * max([*rates, product]))
    _quiet(axes)
    axes.xaxis.set_major_locator(LogLocator(numticks=8))
    _along(axes, low, copy, product)
    axes.set_xlabel("operations per byte that must move (arguments and results)", fontsize=9)
    axes.set_ylabel("GFLOP/s", fontsize=9)
    figure.text(
        0.09,
        0.95,
        "What the machine could do, and what was done",
        fontsize=14,
        fontweight="bold",
        color=INK,
    )
    note = f"{result.machine_sentence()}. What is above the slope stays in cache."
    figure.text(0.09, 0.905, note, fontsize=9, color="#6b737c")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def _along(axes: Any, low: float, copy: float, product: float) -> None:
    """The name of the slope, written along it."""
    start = low * (product / copy / low) ** 0.08
    axes.text(
        start,
        start * copy * 1.15,
        f"plain copy, {copy:.3g} GB/s",
        rotation=45,
        rotation_mode="anchor",
        transform_rotates_text=True,
        fontsize=9,
        color=INK,
    )
