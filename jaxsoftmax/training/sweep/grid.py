"""Which runs a sweep has: every combination of the values that its config names."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.config.keys import SweepConfig
from jaxsoftmax.training.data import Dataset
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.runs import plan
from jaxsoftmax.training.solvers.optimizers import FirstOrder


class Point(NamedTuple):
    """The settings of one run; ``rate`` is None for solvers that have no learning rate."""

    path: str | None
    seed: int
    class_weights: str | None
    l2: float
    rate: float | None

    def config(self, base: RunConfig) -> RunConfig:
        """The config of this run alone."""
        model = base.model.model_copy(update={"l2": self.l2, "class_weights": self.class_weights})
        update = {"model": model, "seed": self.seed}
        if self.path is not None:
            update["data"] = base.data.model_copy(update={"path": self.path})
        if self.rate is not None:
            update["solver"] = base.solver.model_copy(update={"learning_rate": self.rate})
        return base.model_copy(update=update)


def points(base: RunConfig, grid: SweepConfig, dataset: Dataset) -> list[Point]:
    """All runs; those of one file, and in it of one seed, are neighbours.

    Raises:
      InputError: learning rates for a solver that has none.
    """
    solver, model = base.solver, base.model
    if isinstance(solver, FirstOrder) and solver.patience is not None:
        raise InputError(
            "[solver] patience: the runs of a sweep take all their epochs; leave it out"
        )
    rates: Sequence[float | None] = (None,)
    if isinstance(solver, FirstOrder):
        rates = grid.learning_rate or (solver.learning_rate,)
    elif grid.learning_rate:
        raise InputError(
            f"[sweep] learning_rate: {solver.name} has none; choose another [solver] name, as sgd"
        )
    auto = plan.penalties(base, dataset) if model.l2 == "auto" else (model.l2,)
    weights = tuple(None if name == "none" else name for name in grid.class_weights)
    return [
        Point(*values)
        for values in itertools.product(
            grid.path or (None,),
            grid.seed or (base.seed,),
            weights or (model.class_weights,),
            grid.l2 or auto,
            rates,
        )
    ]
