"""The pictures of a result."""

from __future__ import annotations

from pathlib import Path

from bench.plot_classes import classes
from bench.plot_ratios import ratios
from bench.plot_roofline import roofline
from bench.results import Result


def draw(result: Result, folder: Path, stem: str) -> list[Path]:
    """Draws all pictures beside the result file."""
    pictures = {"ratios": ratios, "classes": classes, "roofline": roofline}
    paths = []
    for name, picture in pictures.items():
        path = folder / f"{stem}-{name}.png"
        picture(result).savefig(path, dpi=150, facecolor="white")
        paths.append(path)
    return paths
