"""Solvers: each is `init` and `step` on one `State`; see `state`."""

from .problem import Params, Problem
from .state import Settings, Solver, State, Status, finished, solve

__all__ = ["Params", "Problem", "Settings", "Solver", "State", "Status", "finished", "solve"]
