"""The three things one does with a run: make it, test it again, use its model."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from . import checkpoint, metrics, report
from .config import RunConfig
from .config_file import load_config
from .data import Dataset, Parts, Standardization, split_rows
from .errors import InputError
from .files import read_feature_csv, read_npy, write_file
from .loop import EpochRecord, fit
from .model import Classifier, init, scores
from .run_folder import CONFIG, CONFUSION, CURVES, METRICS, SUMMARY, Summary, read_summary

# The one compiled form of the scores: training and evaluation report the same bits.
_scores = jax.jit(scores)


class Examination(NamedTuple):
    """How a model does on rows it has not seen; confusion is ``(true, predicted)`` counts."""

    rows: int
    loss: float
    accuracy: float
    calibration_error: float
    confusion: npt.NDArray[np.int64]


def prepare(config: RunConfig) -> tuple[Dataset, Parts]:
    """Loads and splits the data that a config names."""
    dataset = config.data.load()
    return dataset, split_rows(dataset, config.data.split, config.seed)


def train(
    config: RunConfig,
    dataset: Dataset,
    parts: Parts,
    folder: Path,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
) -> Summary:
    """Trains, tests, and leaves config, metrics, model, figures and summary in ``folder``."""
    write_file(folder / CONFIG, config.model_dump_json(indent=2).encode())
    untrained = blank(config, parts.train)
    records: list[EpochRecord] = []
    with (folder / METRICS).open("w", encoding="utf-8") as log:

        def record_epoch(record: EpochRecord) -> None:
            records.append(record)
            print(json.dumps(record._asdict()), file=log, flush=True)
            on_epoch(record)

        result = fit(
            config,
            untrained.params,
            untrained.rows(parts.train),
            untrained.rows(parts.validation),
            record_epoch,
        )
    model = untrained._replace(params=result.params)
    checkpoint.save(folder, model)
    test = examine(model, parts.test)
    report.draw_curves(folder / CURVES, records, test.loss, test.accuracy)
    report.draw_confusion(folder / CONFUSION, test.confusion, model.classes)
    summary = Summary(
        data_sha256=dataset.fingerprint(),
        rows=len(dataset.labels),
        features=len(dataset.feature_names),
        classes=len(dataset.classes),
        test_rows=test.rows,
        test_loss=test.loss,
        test_accuracy=test.accuracy,
        test_calibration_error=test.calibration_error,
        epochs=config.epochs,
        compile_seconds=result.compile_seconds,
        train_seconds=result.train_seconds,
        device=jax.devices()[0].device_kind,
        versions=checkpoint.versions(),
    )
    write_file(folder / SUMMARY, summary.model_dump_json(indent=2).encode())
    return summary


def evaluate(folder: Path) -> Examination:
    """Tests the saved model again, on the same rows.

    Raises:
      InputError: the folder holds no finished run, or the data are no longer the same.
    """
    summary = read_summary(folder)
    model = checkpoint.load(folder)
    dataset, parts = prepare(load_config(folder / CONFIG))
    if dataset.fingerprint() != summary.data_sha256:
        raise InputError(
            f"{folder}: the data are no longer those the model was trained on, "
            f"so its test rows cannot be found again"
        )
    return examine(model, parts.test)


def predict(folder: Path, source: Path) -> str:
    """Classifies the rows of a ``.npy`` or ``.csv`` file.

    Returns:
      CSV text: a header, then per row the class and the probability of each class.
    """
    model = checkpoint.load(folder)
    match source.suffix:
        case ".npy":
            features = read_npy(source, len(model.feature_names))
        case ".csv":
            features = read_feature_csv(source, model.feature_names)
        case _:
            raise InputError(f"{source}: expected a .npy or .csv file of features")
    probabilities = model.probabilities(features)
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["prediction", *(f"p({name})" for name in model.classes)])
    for winner, row in zip(probabilities.argmax(axis=1), probabilities, strict=True):
        writer.writerow([model.classes[winner], *(f"{p:.9g}" for p in row)])
    return text.getvalue()


def blank(config: RunConfig, train: Dataset) -> Classifier:
    """The model before its first step, with the standardisation of the training part."""
    width = len(train.feature_names)
    return Classifier(
        init(width, len(train.classes), config.model.bias),
        Standardization.fit(train.features, config.data.standardize),
        train.classes,
        train.feature_names,
    )


def examine(model: Classifier, part: Dataset) -> Examination:
    """Scores a model on one part of the data."""
    result = jax.device_get(_scores(model.params, model.rows(part)))
    probabilities = model.probabilities(part.features)
    predictions = probabilities.argmax(axis=1)
    return Examination(
        len(part.labels),
        float(result.loss),
        float(result.accuracy),
        metrics.expected_calibration_error(part.labels, probabilities),
        metrics.confusion_matrix(part.labels, predictions, len(model.classes)),
    )
