"""Figures of a run: learning curves and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxsoftmax.training.runs.state import Record

INK, MUTED, GRID = "#1f2933", "#6b7785", "#e4e7eb"
TRAIN, VALIDATION = "#2563a8", "#e07b1a"
READABLE_CLASSES = 20  # up to so many, names and counts are written out
DPI = 160


def draw_curves(
    path: Path, records: Sequence[Record], test_loss: float, test_accuracy: float
) -> None:
    """Loss and accuracy after each epoch; the test part is one point, at the end."""
    epochs = [record.epoch for record in records]
    figure = _figure(10.0, 3.8)
    left, right = figure.subplots(1, 2)
    train = [record.train_loss for record in records]
    validation = [record.validation_loss for record in records]
    _curves(left, "Loss", epochs, train, validation, test_loss)
    left.set_ylim(bottom=0)
    train = [record.train_accuracy for record in records]
    validation = [record.validation_accuracy for record in records]
    _curves(right, "Accuracy", epochs, train, validation, test_accuracy)
    right.set_ylim(top=1 + 0.04 * (1 - right.get_ylim()[0]))
    figure.savefig(path, dpi=DPI)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.set_layout_engine("constrained", w_pad=0.14, h_pad=0.12)
    return figure


def _curves(
    axes: Axes,
    title: str,
    epochs: Sequence[int],
    train: Sequence[float],
    validation: Sequence[float],
    test: float,
) -> None:
    dots: dict[str, Any] = {"marker": "o", "markersize": 3} if len(epochs) <= 15 else {}
    for name, values, colour in (("train", train, TRAIN), ("validation", validation, VALIDATION)):
        label = f"{name} {values[-1]:.3f}"
        axes.plot(epochs, values, color=colour, linewidth=1.8, label=label, **dots)
    axes.plot(
        epochs[-1:],
        [test],
        marker="D",
        markersize=6,
        color=INK,
        markeredgecolor="white",
        linestyle="none",
        label=f"test {test:.3f}",
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
    axes.set_xlabel("epoch", color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)


def draw_confusion(path: Path, confusion: npt.NDArray[np.int64], classes: Sequence[str]) -> None:
    """The confusion matrix: recall in blue on the diagonal, mistakes in orange off it."""
    side = min(10.0, 2.6 + 0.46 * len(classes))
    figure = _figure(side + 0.6, side)
    axes = figure.subplots()
    axes.imshow(_cell_colours(confusion))
    rows, right = int(confusion.sum()), int(np.trace(confusion))
    axes.set_title(
        f"{right} of {rows} test rows right",
        loc="left",
        fontsize=11,
        fontweight="bold",
        color=INK,
    )
    axes.set_xlabel("predicted class", color=MUTED)
    axes.set_ylabel("true class", color=MUTED)
    axes.tick_params(colors=INK, length=0)
    axes.spines[:].set_visible(False)
    if len(classes) <= READABLE_CLASSES:
        _write_cells(axes, confusion, classes)
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


def _write_cells(axes: Axes, confusion: npt.NDArray[np.int64], classes: Sequence[str]) -> None:
    """Counts in the cells, class names on the axes, recall beside each row."""
    count = len(classes)
    long_names = max(map(len, classes)) > 4
    rotation: dict[str, Any] = (
        {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if long_names else {}
    )
    axes.set_xticks(range(count), classes, **rotation)
    axes.set_yticks(range(count), classes)
    axes.set_xticks(np.arange(count - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(count - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    for (row, column), number in np.ndenumerate(confusion):
        if number:
            colour = "white" if row == column else INK
            axes.text(column, row, f"{number}", ha="center", va="center", color=colour, fontsize=10)
    recall = axes.secondary_yaxis("right")
    totals = np.maximum(confusion.sum(axis=1), 1)
    shares = [f"{share:.0%}" for share in np.diag(confusion) / totals]
    recall.set_yticks(range(count), shares)
    recall.set_ylabel("recall", color=MUTED)
    recall.tick_params(colors=MUTED, length=0)
    recall.spines[:].set_visible(False)
