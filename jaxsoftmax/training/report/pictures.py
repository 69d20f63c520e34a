"""Figures of a run: how it went, and what it confuses."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps, font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import MaxNLocator

from jaxsoftmax.training.runs.state import Record

from .scores import Answers, Scores, confused_pairs, confusion_matrix

INK, MUTED, GRID = "#1f2933", "#6b7785", "#e4e7eb"
TRAIN, VALIDATION = "#2563a8", "#e07b1a"
READABLE_CLASSES = 20  # up to so many, names and counts are written out
WORST_PAIRS = 20
LONGEST_NAME = 24
LOG_RATIO = 30  # of the largest to the smallest loss: more are shown on a log axis
DPI = 160


def draw_curves(
    path: Path, records: Sequence[Record], test: Scores, kept: Record | None = None
) -> None:
    """Loss and accuracy, along the path of penalties or after each epoch, and the baselines.

    Args:
      path: The picture.
      records: Of the run.
      test: The scores of the model.
      kept: The record of the epoch that became the model; the last when left out.
    """
    last = records[-1].stage
    on_path = [record for record in records if record.stage < last]
    figure = _figure(10.0, 3.8)
    left, right = figure.subplots(1, 2)
    if on_path:
        x = [record.l2 for record in on_path]
        label, marked = "l2", records[-1].l2
        drawn: Sequence[Record] = on_path
    else:
        x = [float(record.epoch) for record in records]
        label, marked = "epoch", float((kept or records[-1]).epoch)
        drawn = records
    for axes, title, what in ((left, "Loss", "loss"), (right, "Accuracy", "accuracy")):
        train = [getattr(record, f"train_{what}") for record in drawn]
        validation = [getattr(record, f"validation_{what}") for record in drawn]
        value = test.log_loss if what == "loss" else test.accuracy
        baseline = test.baseline.log_loss if what == "loss" else test.baseline.accuracy
        start = [0.0] if what == "loss" and not on_path else []
        first = [math.log(len(test.classes))] * len(start)
        _curves(axes, title, start + x, first + train, first + validation, (marked, value))
        axes.axhline(baseline, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            "class frequencies" if what == "loss" else "most frequent class",
            (0.01, baseline),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            fontsize=8,
            color=MUTED,
        )
        axes.set_xlabel(label, color=MUTED)
        if on_path:
            axes.set_xscale("log")
            axes.invert_xaxis()
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    losses = [record.train_loss for record in drawn] + [test.log_loss]
    if min(losses) > 0 and max(losses) > LOG_RATIO * min(losses):
        left.set_yscale("log")
    else:
        left.set_ylim(bottom=0)
    right.set_ylim(top=1 + 0.04 * (1 - right.get_ylim()[0]))
    figure.savefig(path, dpi=DPI)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.set_layout_engine("constrained", w_pad=0.14, h_pad=0.12)
    return figure


def _curves(
    axes: Axes,
    title: str,
    x: Sequence[float],
    train: Sequence[float],
    validation: Sequence[float],
    test: tuple[float, float],
) -> None:
    dots: dict[str, Any] = {"marker": "o", "markersize": 3} if len(x) <= 15 else {}
    for name, values, colour in (("train", train, TRAIN), ("validation", validation, VALIDATION)):
        label = f"{name} {values[-1]:.3f}"
        axes.plot(x, values, color=colour, linewidth=1.8, label=label, **dots)
    axes.plot(
        *([value] for value in test),
        marker="D",
        markersize=6,
        color=INK,
        markeredgecolor="white",
        linestyle="none",
        label=f"test {test[1]:.3f}",
        clip_on=False,
        zorder=5,
    )
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.02, 0.98),
        ncols=3,
        frameon=False,
        labelcolor=INK,
        fontsize=9,
        handlelength=1.2,
        columnspacing=1.0,
    )
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0, which="both")
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)


def readable(names: Sequence[str]) -> list[str]:
    """Names as they can be drawn: short, and a number where the font lacks a sign."""
    known = _signs()
    shown = []
    for number, name in enumerate(names):
        if not name.strip() or not all(ord(sign) in known for sign in name):
            shown.append(f"class {number}")
        elif len(name) > LONGEST_NAME:
            shown.append(name[: LONGEST_NAME - 1] + "…")
        else:
            shown.append(name)
    return shown


@functools.cache
def _signs() -> frozenset[int]:
    """The signs of the font that figures are drawn with."""
    return frozenset(FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap())


def draw_confusion(path: Path, answers: Answers, classes: Sequence[str]) -> None:
    """Up to 20 classes the confusion matrix; above, the pairs that are confused most."""
    labels, predictions = answers.labels, answers.predictions
    if len(classes) > READABLE_CLASSES:
        _draw_pairs(path, confused_pairs(labels, predictions), classes)
    else:
        _draw_matrix(path, confusion_matrix(labels, predictions, len(classes)), classes)


def _draw_pairs(
    path: Path, counted: Sequence[tuple[int, int, int]], classes: Sequence[str]
) -> None:
    pairs = [pair for pair in counted if pair[0] != pair[1]][:WORST_PAIRS]
    figure = _figure(8.0, 1.4 + 0.3 * max(len(pairs), 1))
    axes = figure.subplots()
    bars = axes.barh(
        range(len(pairs)), [count for _, _, count in pairs], color=VALIDATION, height=0.7
    )
    axes.bar_label(bars, padding=3, color=INK, fontsize=9)
    names = readable(classes)
    labels = [f"{names[true]} → {names[predicted]}" for true, predicted, _ in pairs]
    axes.set_yticks(range(len(pairs)), labels, parse_math=False)
    axes.invert_yaxis()
    rows = sum(count for _, _, count in counted)
    right = sum(count for true, predicted, count in counted if true == predicted)
    title = f"{right} of {rows} test rows right; most frequent mistakes, true → predicted"
    _title(axes, title)
    axes.xaxis.set_visible(False)
    axes.tick_params(colors=INK, length=0)
    axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=DPI)


def _title(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)


def _draw_matrix(path: Path, confusion: npt.NDArray[np.int64], classes: Sequence[str]) -> None:
    """Recall in blue on the diagonal, mistakes in orange off it."""
    side = min(10.0, 2.6 + 0.46 * len(classes))
    figure = _figure(side + 0.6, side)
    axes = figure.subplots()
    colours = _cell_colours(confusion)
    axes.imshow(colours)
    rows, right = int(confusion.sum()), int(np.trace(confusion))
    _title(axes, f"{right} of {rows} test rows right")
    axes.set_xlabel("predicted class", color=MUTED)
    axes.set_ylabel("true class", color=MUTED)
    axes.tick_params(colors=INK, length=0)
    axes.spines[:].set_visible(False)
    _write_cells(axes, confusion, readable(classes), colours)
    figure.savefig(path, dpi=DPI)


def _cell_colours(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """RGBA per cell: each row's share on the diagonal, each mistake against the worst one."""
    diagonal = np.eye(len(confusion), dtype=bool)
    totals = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    mistakes = np.where(diagonal, 0, confusion)
    blue = colormaps["Blues"](0.15 + 0.65 * confusion / totals)
    orange = colormaps["Oranges"](0.15 + 0.5 * mistakes / max(1, int(mistakes.max())))
    colours = np.where(diagonal[:, :, np.newaxis], blue, orange)
    empty = colormaps["Greys"](0.02)
    return np.where((confusion == 0)[:, :, np.newaxis], empty, colours)


def _write_cells(
    axes: Axes,
    confusion: npt.NDArray[np.int64],
    classes: Sequence[str],
    colours: npt.NDArray[np.float64],
) -> None:
    """Counts in the cells, class names on the axes, recall beside each row."""
    count = len(classes)
    long_names = max(map(len, classes)) > 4
    rotation: dict[str, Any] = (
        {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if long_names else {}
    )
    axes.set_xticks(range(count), classes, parse_math=False, **rotation)
    axes.set_yticks(range(count), classes, parse_math=False)
    axes.set_xticks(np.arange(count - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(count - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    for (row, column), number in np.ndenumerate(confusion):
        if number:
            colour = ink_on(colours[row, column])
            axes.text(column, row, f"{number}", ha="center", va="center", color=colour, fontsize=10)
    recall = axes.secondary_yaxis("right")
    totals = np.maximum(confusion.sum(axis=1), 1)
    seen = confusion.sum(axis=1) > 0
    shares = [
        f"{share:.0%}" if known else "no rows"
        for share, known in zip(np.diag(confusion) / totals, seen, strict=True)
    ]
    recall.set_yticks(range(count), shares)
    recall.set_ylabel("recall", color=MUTED)
    recall.tick_params(colors=MUTED, length=0)
    recall.spines[:].set_visible(False)


def ink_on(colour: npt.NDArray[np.float64]) -> str:
    """Black or white, whichever has more contrast (WCAG 2.2, relative luminance)."""
    linear = np.where(
        colour[:3] <= 0.04045, colour[:3] / 12.92, ((colour[:3] + 0.055) / 1.055) ** 2.4
    )
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return INK if (luminance + 0.05) ** 2 > 0.071 * 1.05 else "white"
