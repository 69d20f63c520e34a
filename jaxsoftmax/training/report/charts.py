"""Figures that only the report has: calibration, convergence, and images among the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsoftmax.training.runs.state import Record

from .pictures import GRID, INK, MUTED, TRAIN, VALIDATION, readable
from .scores import Baseline, reliability

if TYPE_CHECKING:
    from jaxsoftmax.training.learning import Point

Images = npt.NDArray[np.floating]
ALIKE = 0.2  # correlation of neighbouring pixels above that of any two


def calibration(right: npt.NDArray[np.bool_], confidence: npt.NDArray[np.float64]) -> Figure:
    """How often the predicted class is right, by its probability; and how many rows are there."""
    bins = reliability(right, confidence)
    used = bins.rows > 0
    figure = Figure(figsize=(4.6, 3.8), layout="constrained")
    axes = styled(
        figure, "Reliability", "probability of the predicted class", "share that is right"
    )
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    sizes = 15 + 200 * bins.rows[used] / bins.rows.max()
    axes.vlines(bins.confidence[used], bins.confidence[used], bins.accuracy[used], color=VALIDATION)
    axes.scatter(bins.confidence[used], bins.accuracy[used], s=sizes, color=TRAIN, zorder=3)
    axes.set_xlim(0, 1.03)
    axes.set_ylim(0, 1.03)
    return figure


def convergence(records: Sequence[Record]) -> Figure:
    """The largest entry of the gradient after each record, and the objective."""
    figure = Figure(figsize=(4.6, 3.8), layout="constrained")
    axes = styled(figure, "Convergence", "record", "largest entry of the gradient")
    x = np.arange(1, len(records) + 1)
    sizes = np.array([record.gradient_norm for record in records])
    axes.plot(x, sizes, color=TRAIN, linewidth=1.6, marker="o", markersize=3)
    if np.all(sizes > 0):
        axes.set_yscale("log")
    return figure


def learning(points: Sequence[Point], baseline: Baseline) -> Figure:
    """Loss and accuracy by the number of training rows, and the scores of the baseline."""
    figure = Figure(figsize=(9.2, 3.6), layout="constrained")
    rows = [point.rows for point in points]
    for place, (title, what, level) in enumerate(
        (("Loss", "loss", baseline.log_loss), ("Accuracy", "accuracy", baseline.accuracy)), start=1
    ):
        axes = styled(figure, title, "training rows", "", (1, 2, place))
        for part, colour in (("train", TRAIN), ("test", VALIDATION)):
            values = [getattr(point, f"{part}_{what}") for point in points]
            label = f"{part} {values[-1]:.3f}"
            axes.plot(rows, values, color=colour, linewidth=1.8, marker="o", label=label)
        axes.axhline(level, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="baseline")
        axes.set_xscale("log", base=2)
        axes.set_xticks(rows, [f"{count:,}" for count in rows])
        axes.minorticks_off()
        axes.legend(frameon=False, labelcolor=INK, fontsize=9)
        if what == "loss":
            axes.set_ylim(bottom=0)
    return figure


def image_shape(features: npt.NDArray[np.floating]) -> tuple[int, int] | None:
    """Rows and columns, where features are the pixels of a square image.

    Not their names tell, but the data: neighbours in both directions are more alike than others.

    Args:
      features: ``(N, D)`` of some rows.
    """
    side = int(np.sqrt(features.shape[1]))
    if side < 4 or side * side != features.shape[1] or len(features) < 20:
        return None
    pixels = features.astype(np.float64)
    pixels = pixels - pixels.mean(axis=0)
    deviation = pixels.std(axis=0)
    images = (pixels / np.where(deviation > 0, deviation, 1)).reshape(-1, side, side)
    varies = (deviation > 0).reshape(side, side)
    if not varies.any():
        return None
    any_two = np.mean(np.square(images[:, varies].mean(axis=1)))
    for first, second, both in (
        (images[:, :, 1:], images[:, :, :-1], varies[:, 1:] & varies[:, :-1]),
        (images[:, 1:], images[:, :-1], varies[1:] & varies[:-1]),
    ):
        alike = np.mean(first * second, axis=0)[both]
        if not len(alike) or alike.mean() - any_two < ALIKE:
            return None
    return side, side


def gallery(images: Images, titles: Sequence[str], colours: str) -> Figure:
    """Images ``(K, height, width)`` side by side, on one scale; 0 is in the middle of it."""
    columns = min(len(images), 10)
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.15 * columns, 1.35 * rows), layout="constrained")
    limit = float(np.abs(images).max()) or 1.0
    low = -limit if images.min() < 0 else 0.0
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, image, title in zip(grid, images, readable(titles), strict=False):
        axes.imshow(image, cmap=colours, vmin=low, vmax=limit, interpolation="nearest")
        axes.set_title(title, fontsize=8, color=INK, parse_math=False)
    return figure


def intervals(names: Sequence[str], values: Sequence[tuple[float, float, float]]) -> Figure:
    """A value and its interval for each name: (low, value, high)."""
    figure = Figure(figsize=(6.4, 1.0 + 0.34 * len(names)), layout="constrained")
    axes = styled(figure, "Test accuracy, with its 95 % interval", "", "")
    for place, (low, value, high) in enumerate(values):
        axes.plot([low, high], [place, place], color=TRAIN, linewidth=2)
        axes.plot([value], [place], marker="o", color=TRAIN)
    axes.set_yticks(range(len(names)), readable(names), parse_math=False)
    axes.invert_yaxis()
    return figure


def styled(
    figure: Figure, title: str, x: str, y: str, place: tuple[int, int, int] = (1, 1, 1)
) -> Axes:
    """Axes with a title, in the colours of all figures."""
    axes = figure.add_subplot(*place)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel(x, color=MUTED)
    axes.set_ylabel(y, color=MUTED)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0, which="both")
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)
    return axes
