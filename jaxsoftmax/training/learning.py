"""The learning curve of a run: would more rows help?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .errors import InputError
from .evaluation import again, config_of
from .model import Classifier
from .report.scores import judge
from .runs import loop, programs
from .runs.folder import read_summary
from .solvers import Settings
from .solvers.optimizers import FullBatch
from .solvers.problem import zeros
from .solvers.state import finished

HALVINGS = 5
FEWEST = 16  # rows


class Point(NamedTuple):
    """What so many training rows give."""

    rows: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float


def learning_curve(folder: Path, path: Path | None = None) -> list[Point]:
    """Trains again on a half of the training rows, a quarter of them and so on, each in the next.

    The penalty is that of the run for each row: λ n is the same for all n. One program, that of the
    run, solves all, each from the solution of fewer rows.

    Args:
      folder: A finished run.
      path: Where the data are now, if not where the config says.

    Returns:
      From few rows to all; losses are without the penalty.

    Raises:
      InputError: As of `evaluate`, or the solver is one of mini-batches.
    """
    config, summary = config_of(folder), read_summary(folder)
    solver = config.solver
    if not isinstance(solver, FullBatch):
        raise InputError(
            f"{folder}: a learning curve is for solvers that run to an optimum, as newton_cg; "
            f"this run has {solver.name}"
        )
    model, dataset, seed = again(folder, path)
    job, test = loop.prepare(config, dataset), dataset.part("test")
    weights = np.asarray(job.rows.weights if job.path else job.train)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(weights))
    settings = Settings(jnp.float32(solver.tolerance), jnp.int32(solver.max_iterations))
    with job.devices.context():
        start = zeros(job.rows, len(model.classes), bias=model.params.bias is not None)
        params = job.devices.place(start)
        points = []
        for rows in sizes(len(order)):
            chosen = np.zeros_like(weights)
            chosen[order[:rows]] = weights[order[:rows]]
            fewer = jnp.float32(weights.sum() / chosen.sum())
            problem = dataclasses.replace(
                job.rows,
                weights=job.devices.place_rows(chosen),
                l2=summary.l2 * fewer,
                l1=job.rows.l1 * fewer,
            )
            state: Any = programs.init(job.solver, problem, params, settings)
            while not bool(finished(state)):
                state = programs.step(job.solver, problem, state)
            params = job.devices.place(state.params)
            train = programs.scores(params, problem)
            fitted = Classifier(model.columns, job.devices.gather(params), model.classes)
            answers = judge(test.labels, fitted.blocks(test.features))
            points.append(
                Point(
                    rows,
                    float(train.loss),
                    float(train.accuracy),
                    float(answers.losses.mean()),
                    float(answers.right.mean()),
                )
            )
    return points


def sizes(rows: int) -> list[int]:
    """All rows, half of them, a quarter, …, in rising order."""
    halves = [rows >> k for k in range(HALVINGS, 0, -1)]
    return [half for half in halves if half >= FEWEST] + [rows]
