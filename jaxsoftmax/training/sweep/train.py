"""A sweep: its rows, its runs, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.config.keys import SweepConfig
from jaxsoftmax.training.data import Dataset, prepare
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.runs import job, plan
from jaxsoftmax.training.runs.devices import Devices
from jaxsoftmax.training.solvers import Problem, State, Status
from jaxsoftmax.training.solvers.optimizers import FirstOrder, Fista, Lbfgs, NewtonCg

from . import program
from .grid import Point, points

Weights = npt.NDArray[np.float32]


class Outcome(NamedTuple):
    """What came of one run: a row of ``sweep.csv``."""

    path: str | None
    seed: int
    class_weights: str | None
    l2: float
    learning_rate: float | None
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    gradient_norm: float
    iterations: int
    status: str

    @property
    def point(self) -> Point:
        """Its settings."""
        return Point(*self[:5])


class Sweep(NamedTuple):
    """All runs, and the config of the best one."""

    outcomes: tuple[Outcome, ...]
    best: Outcome
    config: RunConfig


def sweep(
    base: RunConfig, grid: SweepConfig, on_file: Callable[[Dataset, int], None] = lambda d, n: None
) -> Sweep:
    """Trains every run of a grid.

    A further seed divides the rows that do not test anew, and orders batches anew. The test rows
    are those of the config's own seed for all runs, and none of them has a say in which is best;
    so are the statistics that features are standardised with.

    Args:
      base: What the runs have in common.
      grid: What they differ in.
      on_file: Is called before the runs of each file of features, with their number.

    Raises:
      InputError: The files have not the same rows, or the grid makes no sense.
    """
    outcomes: list[Outcome] = []
    first: Dataset | None = None
    for path in grid.path or (None,):
        config = base if path is None else Point(path, base.seed, None, 0.0, None).config(base)
        dataset = prepare(config)
        first = first or dataset
        _check_same(first, dataset)
        runs = [point for point in points(base, grid, dataset) if point.path == path]
        on_file(dataset, len(runs))
        outcomes += _of_file(config, dataset, runs)
    best = choose(outcomes, grid.by)
    return Sweep(tuple(outcomes), best, best.point.config(base))


def choose(outcomes: Sequence[Outcome], by: str) -> Outcome:
    """The settings whose mean over the seeds is best, with the first of them."""
    settled: dict[tuple[object, ...], list[Outcome]] = {}
    for outcome in outcomes:
        key = (outcome.path, outcome.class_weights, outcome.l2, outcome.learning_rate)
        settled.setdefault(key, []).append(outcome)
    sign = -1 if by == "validation_accuracy" else 1

    def mean(runs: list[Outcome]) -> float:
        value = sign * float(np.mean([getattr(run, by) for run in runs]))
        failed = any(run.status == Status.DIVERGED.name.lower() for run in runs)
        return float("inf") if failed or np.isnan(value) else value

    return min(settled.values(), key=mean)[0]


def _check_same(first: Dataset, other: Dataset) -> None:
    same = first.classes == other.classes and first.parts == other.parts
    if not same or not (
        np.array_equal(first.labels, other.labels) and np.array_equal(first.rows, other.rows)
    ):
        raise InputError(
            f"[sweep] path: {other.origin} has not the same rows as {first.origin}; files of a "
            f"sweep hold the same rows with the same labels, in the same order"
        )


def _of_file(config: RunConfig, dataset: Dataset, runs: Sequence[Point]) -> Iterator[Outcome]:
    stop = dataset.parts.validation.stop
    here = Devices(None, stop, len(dataset.classes))
    rows = Problem(
        job.placed(here, dataset.features, jnp.dtype(config.columns.dtype)),
        jnp.asarray(dataset.labels[:stop]),
        jnp.zeros(stop, jnp.float32),
        jnp.float32(0),
        jnp.float32(config.model.l1),
        label_smoothing=config.model.label_smoothing,
    )
    seeds = list(dict.fromkeys(point.seed for point in runs))
    training = {seed: training_rows(config, dataset, seed) for seed in seeds}
    weights = {
        name: plan.row_weights(config.model_copy(update={"model": model}), dataset)
        for name in {point.class_weights for point in runs}
        for model in [config.model.model_copy(update={"class_weights": name})]
    }
    train = [_only(weights[p.class_weights], training[p.seed]) for p in runs]
    validation = [_without(dataset.weights[:stop], training[p.seed]) for p in runs]
    if isinstance(config.solver, FirstOrder):
        states = _descend(config, config.solver, dataset, rows, runs, training, weights)
    else:
        states = _converge(config, config.solver, dataset, rows, runs, train)
    on_train, on_validation = (
        program.scores(states.params, rows, jnp.asarray(np.stack(part)))
        for part in (train, validation)
    )
    for number, point in enumerate(runs):
        yield Outcome(
            point.path,
            point.seed,
            point.class_weights,
            point.l2,
            point.rate,
            float(on_train.loss[number]),
            float(on_train.accuracy[number]),
            float(on_validation.loss[number]),
            float(on_validation.accuracy[number]),
            float(states.gradient_norm[number]),
            int(states.iterations[number]),
            Status(int(states.status[number])).name.lower(),
        )


def training_rows(config: RunConfig, dataset: Dataset, seed: int) -> npt.NDArray[np.intp]:
    """The numbers of the rows that train, in the order of the source.

    For another seed than the config's, as many of each class as in its own split; where a column,
    a group, a time or a file decides who trains, that stays.
    """
    split, stop = config.split, dataset.parts.validation.stop
    own = np.arange(dataset.parts.train.stop)
    by = (split.column, split.group, split.time, split.hash, split.validation_path)
    if seed == config.seed or any(by):
        return own
    labels = dataset.labels[:stop]
    counts = np.bincount(labels[own], minlength=len(dataset.classes))
    shuffled = np.random.default_rng(seed).permutation(stop)
    shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]
    sizes = np.bincount(labels, minlength=len(counts))
    place = np.arange(stop) - (np.cumsum(sizes) - sizes)[labels[shuffled]]
    chosen = shuffled[place < counts[labels[shuffled]]]
    found: npt.NDArray[np.intp] = chosen[np.argsort(dataset.rows[chosen])]
    return found


def _converge(
    config: RunConfig,
    solver: NewtonCg | Lbfgs | Fista,
    dataset: Dataset,
    rows: Problem,
    runs: Sequence[Point],
    train: Sequence[Weights],
) -> State:
    width, classes = dataset.features.shape[1], len(dataset.classes)
    size = program.at_once(len(runs), len(rows.labels), width, classes)
    settled = program.Settled(
        jnp.asarray(np.stack(train)), jnp.asarray([point.l2 for point in runs], jnp.float32)
    )
    bias = config.model.bias
    states: State = program.converge(solver, classes, bias, size, rows, settled)
    return states


def _descend(
    config: RunConfig,
    solver: FirstOrder,
    dataset: Dataset,
    rows: Problem,
    runs: Sequence[Point],
    training: dict[int, npt.NDArray[np.intp]],
    weights: dict[str | None, Weights],
) -> State:
    job.horizon_of(config, dataset.parts.train.stop)  # refuses a batch that is too large
    names = list(weights)
    of_seed = [point for point in runs if point.seed == runs[0].seed]
    shared = program.Rates(
        jnp.asarray([point.l2 for point in of_seed], jnp.float32),
        jnp.asarray([point.rate for point in of_seed], jnp.float32),
        jnp.asarray([names.index(point.class_weights) for point in of_seed], jnp.int32),
    )
    order = program.Order(
        jnp.asarray(list(training), jnp.uint32), jnp.asarray(np.stack(list(training.values())))
    )
    stacked = np.stack([weights[name] for name in names])
    each = jnp.asarray(np.stack([_only(stacked, chosen) for chosen in training.values()]))
    classes, bias = len(dataset.classes), config.model.bias
    states = program.descend(solver, classes, bias, rows, each, order, shared)
    flat: State = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]), states)
    return flat


def _only(weights: Weights, chosen: npt.NDArray[np.intp]) -> Weights:
    """Weights that are 0 but on these rows."""
    found = np.zeros_like(weights)
    found[..., chosen] = weights[..., chosen]
    return found


def _without(weights: Weights, chosen: npt.NDArray[np.intp]) -> Weights:
    """Weights that are 0 on these rows."""
    found = weights.copy()
    found[chosen] = 0
    return found
