"""The picture of time and memory against the number of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from bench.plot_style import COLOURS, INK, quiet
from bench.results import Entry, Result
from jaxsoftmax.testing.operations.linear_loss import LINEAR


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
    panels = figure.subplots(2, len(ops), sharex=True, squeeze=False)
    shown: dict[str, Any] = {}
    for column, op in enumerate(ops):
        entries = _one_per_width([entry for entry in chosen if entry.op == op])
        note = ",\ntime per feature too" if op == LINEAR.name else "\n"
        title = entries[0].title + note
        panels[0, column].set_title(title, fontsize=10, loc="left", color=INK)
        for axes, measure in zip(panels[:, column], (_nanoseconds, _scratch), strict=True):
            shown |= _curves(axes, entries, measure)
        panels[1, column].set_xlabel("classes", fontsize=9, color=INK)
    _same_heights(panels[:, [op != LINEAR.name for op in ops]])
    panels[0, 0].set_ylabel("time, ns per logit", fontsize=9, color=INK)
    panels[1, 0].set_ylabel("scratch memory, bytes per logit (≥ 0.001)", fontsize=9, color=INK)
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


def _same_heights(panels: Any) -> None:
    """The same vertical scale along each row of panels."""
    for row in panels:
        limits = [axes.get_ylim() for axes in row]
        for axes in row:
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        for axes in row[1:]:
            axes.tick_params(labelleft=False)


def _one_per_width(entries: Sequence[Entry]) -> list[Entry]:
    """Of the cases with the same number of classes the largest, in the order of the classes."""
    largest = {e.shape[-1]: e for e in sorted(entries, key=lambda entry: entry.logits)}
    return [largest[width] for width in sorted(largest)]


def _nanoseconds(entry: Entry, contender: str) -> float:
    features = entry.shape[1] if entry.op == LINEAR.name else 1
    return entry.rows[contender].seconds / (entry.logits * features) * 1e9


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
    quiet(axes)
    return shown
