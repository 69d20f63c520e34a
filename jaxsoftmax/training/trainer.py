"""Making a run: from a config and its data to a folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import numpy.typing as npt

from .config import RunConfig
from .data import Dataset
from .errors import RunFailedError
from .files import write_file
from .model import Classifier, save
from .model.files import versions
from .report import card, page, pictures, scores
from .runs import Record, RunState, loop
from .runs.folder import CONFIG, CONFUSION, CURVES, METRICS, MODEL_CARD, REPORT, SUMMARY, Summary
from .solvers import Status

WORSE = 0.05  # nats: a test loss this far above that of the class frequencies is no success


def train(
    config: RunConfig,
    dataset: Dataset,
    folder: Path,
    on_record: Callable[[Record], None] = lambda record: None,
) -> Summary:
    """Trains, tests, and leaves config, metrics, model, scores, figures and summary in ``folder``.

    Raises:
      RunFailedError: The model is worse than saying how frequent the classes are.
    """
    write_file(folder / CONFIG, config.model_dump_json(indent=2).encode())
    start = time.perf_counter()
    job = loop.prepare(config, dataset)
    state = loop.begin(job)
    compiled = None
    with (folder / METRICS).open("w", encoding="utf-8") as log:
        while not loop.finished(job, state):
            known = len(state.records)
            state = loop.advance(job, state)
            compiled = compiled or time.perf_counter()
            for record in state.records[known:]:
                print(json.dumps(record._asdict()), file=log, flush=True)
                on_record(record)
    end = time.perf_counter()
    compiled = compiled or end
    return conclude(dataset, state, folder, (compiled - start, end - compiled))


def conclude(
    dataset: Dataset, state: RunState, folder: Path, seconds: tuple[float, float]
) -> Summary:
    """Tests the parameters of the last state, and writes model, scores, figures and summary."""
    model = Classifier(state.columns, state.best.params, state.classes)
    majority, part = scores.Majority.of(dataset), dataset.part("test")
    test = scores.examine(model, part.features, part.labels, majority, state.config.seed)
    baseline, last = test.scores.baseline, state.records[-1]
    _check_worth(state, test.scores, majority.shares)
    save(folder, model)
    scores.write(folder, test, model.classes)
    pictures.draw_curves(folder / CURVES, state.records, test.scores, _kept(state))
    pictures.draw_confusion(folder / CONFUSION, test.confusion, model.classes)
    summary = Summary(
        data_sha256=dataset.fingerprint,
        rows=len(dataset.labels),
        features=dataset.features.shape[1],
        classes=len(dataset.classes),
        label=dataset.label,
        class_shares=tuple(majority.shares.tolist()),
        test_rows=test.scores.rows,
        test_loss=test.scores.log_loss,
        test_accuracy=test.scores.accuracy,
        majority_accuracy=baseline.accuracy,
        majority_loss=baseline.log_loss,
        l2=last.l2,
        iterations=int(state.solver.iterations),
        gradient_norm=last.gradient_norm,
        status=Status(int(state.solver.status)).name.lower(),
        compile_seconds=seconds[0],
        train_seconds=seconds[1],
        device=jax.devices()[0].device_kind,
        versions=versions(),
    )
    result = page.Result(dataset, state, model, test, summary)
    write_file(folder / REPORT, page.write(folder, result).encode())
    write_file(folder / MODEL_CARD, card.markdown(result).encode())
    write_file(folder / SUMMARY, summary.model_dump_json(indent=2).encode())
    return summary


def _kept(state: RunState) -> Record:
    """The record of the parameters that are kept."""
    loss, last = state.best.validation_loss, state.records[-1]
    return next((record for record in state.records[::-1] if record.validation_loss == loss), last)


def _check_worth(state: RunState, test: scores.Scores, shares: npt.NDArray[np.float64]) -> None:
    """A model that is worse on its own training rows than the class frequencies has diverged."""
    frequencies = -float(np.sum(shares * np.log(np.where(shares > 0, shares, 1))))
    loss = state.records[-1].train_loss
    if loss > frequencies + WORSE and state.config.model.class_weights is None:
        raise RunFailedError(
            f"The training loss is {loss:.6g}, above the {frequencies:.6g} of always giving the "
            f"frequencies of the classes; no model was written (test loss {test.log_loss:.6g}). "
            f"The solver has diverged or has hardly begun: try another solver.learning_rate, "
            f"more epochs, or solver newton_cg."
        )
