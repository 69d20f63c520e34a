"""The picture of what was done below what the machine could do."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from bench.plot_style import COLOURS, INK, quiet
from bench.results import Result


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
    quiet(axes)
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
    note = (
        f"{result.machine_sentence()}. What is above the slope stays in cache.\n"
        "Programs with row kernels are left out: what these do, XLA does not count."
    )
    figure.text(0.09, 0.935, note, fontsize=9, color="#6b737c", va="top")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def _along(axes: Any, low: float, copy: float, product: float) -> None:
    """The name of the slope, written along it."""
    wide, tall = axes.figure.get_size_inches() * axes.get_position().size
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    steepness = tall / math.log(top / bottom) / (wide / math.log(right / left))
    start = low * (product / copy / low) ** 0.08
    axes.text(
        start,
        start * copy * 1.2,
        f"plain copy, {copy:.3g} GB/s",
        rotation=math.degrees(math.atan(steepness)),
        rotation_mode="anchor",
        fontsize=9,
        color=INK,
    )
