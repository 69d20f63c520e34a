"""A run: its folder, its state, and the loop that moves the state through time."""

from .state import Position, Record, RunState

__all__ = ["Position", "Record", "RunState"]
