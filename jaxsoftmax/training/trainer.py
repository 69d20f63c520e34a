"""Making a run, and testing the model of one again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import jax

from .config import RunConfig, load_config
from .data import Dataset, prepare
from .errors import InputError
from .files import write_file
from .model import Classifier, load, save
from .model.files import versions
from .report import pictures
from .report.scores import Examination, examine, majority
from .runs import Record, RunState, loop
from .runs.folder import CONFIG, CONFUSION, CURVES, METRICS, SUMMARY, Summary, read_summary
from .solvers import Status


def train(
    config: RunConfig,
    dataset: Dataset,
    folder: Path,
    on_record: Callable[[Record], None] = lambda record: None,
) -> Summary:
    """Trains, tests, and leaves config, metrics, model, figures and summary in ``folder``."""
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
    """Tests the parameters of the last state, and writes model, figures and summary."""
    model = Classifier(state.columns, state.best.params, state.classes)
    save(folder, model)
    test = examine(model, dataset.part("test"))
    pictures.draw_curves(folder / CURVES, state.records, test.loss, test.accuracy)
    pictures.draw_confusion(folder / CONFUSION, test.confusion, model.classes)
    summary = Summary(
        data_sha256=dataset.fingerprint,
        rows=len(dataset.labels),
        features=dataset.features.shape[1],
        classes=len(dataset.classes),
        test_rows=test.rows,
        test_loss=test.loss,
        test_accuracy=test.accuracy,
        test_calibration_error=test.calibration_error,
        majority_accuracy=majority(dataset).accuracy,
        epochs=state.position.epoch,
        status=Status(int(state.solver.status)).name.lower(),
        compile_seconds=seconds[0],
        train_seconds=seconds[1],
        device=jax.devices()[0].device_kind,
        versions=versions(),
    )
    write_file(folder / SUMMARY, summary.model_dump_json(indent=2).encode())
    return summary


def evaluate(folder: Path) -> Examination:
    """Tests the saved model again, on the same rows.

    Raises:
      InputError: the folder holds no finished run, or the data are no longer the same.
    """
    summary = read_summary(folder)
    model = load(folder)
    dataset = prepare(load_config(folder / CONFIG))
    if dataset.fingerprint != summary.data_sha256:
        raise InputError(
            f"{folder}: the data are no longer those the model was trained on, "
            f"so its test rows cannot be found again"
        )
    return examine(model, dataset.part("test"))
