"""Many runs at once: a grid of settings, trained by one compiled program on the same rows."""

from .grid import Point, points
from .train import Sweep, sweep

__all__ = ["Point", "Sweep", "points", "sweep"]
