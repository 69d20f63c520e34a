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
from .errors import InterruptedRunError, RunFailedError
from .files import append, naming, write_file
from .model import Classifier, save
from .model.files import versions
from .report import card, page, pictures, scores
from .runs import Record, RunState, checkpoints, loop, processes, resume
from .runs.checkpoints import Checkpoint
from .runs.folder import (
    CONFIG,
    CONFUSION,
    CURVES,
    METRICS,
    MODEL_CARD,
    REPORT,
    SUMMARY,
    Summary,
    complete,
    resume_command,
)
from .runs.saver import Saver
from .solvers import Status

WORSE = 0.05  # nats: a test loss this far above that of the class frequencies is no success


def train(
    config: RunConfig,
    dataset: Dataset,
    folder: Path,
    on_record: Callable[[Record], None] = lambda record: None,
    *,
    checkpoint: Checkpoint | None = None,
    asked: Callable[[], int | None] = lambda: None,
) -> Summary:
    """Trains, tests, and leaves config, metrics, model, scores, figures and summary in ``folder``.

    Args:
      config: What to do.
      dataset: Its rows.
      folder: Where; claimed by this process.
      on_record: Called with each new record.
      checkpoint: Where to go on; from the start when left out.
      asked: The signal that asks the run to stop, or None; looked at between steps.

    Raises:
      RunFailedError: The loss is no longer finite, or the model is worse than saying how frequent
        the classes are.
      InterruptedRunError: The run was asked to stop, and is saved.
      OSError: A file cannot be written; what was saved before is as it was.
    """
    write_file(folder / CONFIG, config.model_dump_json(indent=2).encode())
    start = time.perf_counter()
    job = loop.prepare(config, dataset)
    state = loop.begin(job) if checkpoint is None else resume.state_of(job, checkpoint)
    write_file(folder / METRICS, "".join(map(_line, state.records)).encode())
    saved = None if checkpoint is None else checkpoint.card.steps
    with Saver(folder, config.checkpoint, saved) as saver:
        state, compiled = _to_the_end(job, state, saver, on_record, asked)
    end = time.perf_counter()
    summary = conclude(
        dataset, loop.gathered(job, state), folder, (compiled - start, end - compiled)
    )
    complete(folder)
    return summary


def _to_the_end(
    job: loop.Job,
    state: RunState,
    saver: Saver,
    on_record: Callable[[Record], None],
    asked: Callable[[], int | None],
) -> tuple[RunState, float]:
    """The last state, and the time at which the first call was done, which has to compile."""
    compiled = None
    while not loop.finished(job, state):
        steps = loop.steps(job, state)
        signal, due, ahead = processes.agreed(asked(), saver.due(steps), saver.ahead(steps))
        if signal is not None or due:
            saver.save(steps, loop.gathered(job, state))
        if signal is not None:
            saver.written()
            raise InterruptedRunError(
                f"stopped after {steps} steps, and saved; go on with "
                f"{resume_command(saver.folder)}",
                signal,
            )
        began, known = time.perf_counter(), len(state.records)
        try:
            state = loop.advance(job, state, ahead)
        except loop.DivergedError as failure:
            raise _with_last_good(failure, job, state, saver) from None
        saver.took(time.perf_counter() - began)
        compiled = compiled or time.perf_counter()
        for record in state.records[known:]:
            append(saver.folder / METRICS, _line(record))
            on_record(record)
    return state, compiled or time.perf_counter()


def _line(record: Record) -> str:
    return json.dumps(record._asdict()) + "\n"


def _with_last_good(
    failure: loop.DivergedError, job: loop.Job, state: RunState, saver: Saver
) -> RunFailedError:
    """Saves the state after the last step that went well, and says where it is."""
    if failure.good:
        state = loop.advance(job, state, failure.good)
    steps = loop.steps(job, state)
    saver.save(steps, loop.gathered(job, state))
    saver.written()
    place = checkpoints.place_of(saver.folder, steps)
    return RunFailedError(
        f"{failure} The state before that step is in {place}; go on from it with "
        f"{resume_command(saver.folder)} and other settings (--set and --allow-change)."
    )


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
    scores.write(folder, test)
    with naming(folder / CURVES):
        pictures.draw_curves(folder / CURVES, state.records, test.scores, _kept(state))
    with naming(folder / CONFUSION):
        pictures.draw_confusion(folder / CONFUSION, test.answers, model.classes)
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
