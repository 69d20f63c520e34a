"""What the pictures share."""

from __future__ import annotations

from typing import Any

from matplotlib.ticker import NullLocator

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


def quiet(axes: Any) -> None:
    """A faint grid, and no frame."""
    axes.grid(which="major", color=FAINT, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b8bec5")
    axes.tick_params(which="both", colors=INK, labelsize=8.5, length=0)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
