"""Testing a model on labelled rows: those of its own run, or any files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from .config import RunConfig, load_config
from .data import Dataset, labels, prepare, survey
from .data.again import open_again
from .data.labels import Labels
from .data.sources.arrays import LABELS
from .errors import InputError
from .model import Classifier, load
from .report import paired, uncertainty
from .report.paired import Paired
from .report.scores import (
    Answers,
    Blocks,
    Examination,
    Majority,
    beside,
    examine,
    examined,
    judge,
    judge_parts,
)
from .runs import plan
from .runs.folder import CONFIG, read_summary

ARRAY = LABELS[0]  # what arrays of labels are called, whatever the archive calls them


def evaluate(folder: Path, path: Path | None = None) -> Examination:
    """Tests the saved model again, on the same rows.

    Args:
      folder: The run.
      path: Where the data are now, if not where the config says.

    Raises:
      InputError: The folder holds no finished run, or the data are no longer the same.
    """
    model, dataset, seed = again(folder, path)
    part = dataset.part("test")
    return examine(model, part.features, part.labels, Majority.of(dataset), seed)


def standard_errors(folder: Path, path: Path | None = None) -> str:
    """The coefficients of a run with their standard errors, as CSV.

    Args:
      folder: The run.
      path: Where the data are now, if not where the config says.

    Raises:
      InputError: As of `evaluate`, or there are too many coefficients.
    """
    model, dataset, _ = again(folder, path)
    config, summary = config_of(folder), read_summary(folder)
    if config.model.l1 > 0:
        raise InputError(f"{folder}: with an l1 penalty the optimum has no Hessian")
    if summary.status != "converged":
        raise InputError(f"{folder}: standard errors are those of an optimum, and it has none")
    train, both = dataset.parts.train.stop, dataset.parts.validation.stop
    rows = slice(0, both if config.model.l2 == "auto" else train)
    weights = plan.row_weights(config, dataset)[rows]
    errors = uncertainty.standard_errors(model, dataset.features[rows], weights, summary.l2)
    return uncertainty.table(model, errors)


def compare(first: Path, second: Path, data: Path | None = None) -> Paired:
    """Compares two runs on the rows that both were tested on, or on those of a labelled file.

    Args:
      first: A run.
      second: Another, of the same rows: their numbers and labels must agree, features need not.
      data: A labelled file with the columns of both.

    Raises:
      InputError: They have no test row in common, or its label is not the same.
    """
    if data is not None:
        a, b = (evaluate_file(folder, data) for folder in (first, second))
        return paired.compare(_compared(a.answers), _compared(b.answers))
    runs = [again(folder) for folder in (first, second)]
    numbers = [dataset.rows[dataset.parts.test] for _, dataset, _ in runs]
    common = np.intersect1d(numbers[0], numbers[1], assume_unique=True)
    if not len(common):
        raise InputError(
            f"{first} and {second} have no test row in common; compare them on rows that neither "
            f"was trained on, with --data FILE"
        )
    answers, names = [], []
    for (model, dataset, _), of_run in zip(runs, numbers, strict=True):
        part = dataset.part("test")
        order = np.argsort(of_run)
        chosen = order[np.searchsorted(of_run, common, sorter=order)]
        labels = part.labels[chosen]
        answers.append(_compared(judge(labels, model.blocks(part.features[chosen]))))
        names.append(np.array(model.classes)[labels])
    other = int(np.sum(names[0] != names[1]))
    if other:
        raise InputError(
            f"{first} and {second} were not tested on the same rows: of {len(common)} with the "
            f"same number {other} have different labels"
        )
    return paired.compare(answers[0], answers[1])


def _compared(answers: Answers) -> paired.Answers:
    return paired.Answers(answers.right, answers.losses)


def again(folder: Path, path: Path | None = None) -> tuple[Classifier, Dataset, int]:
    """The model of a run, the data it was made from, and the seed.

    Raises:
      InputError: The folder holds no finished run, or the data are no longer the same.
    """
    summary, config = read_summary(folder), config_of(folder)
    if path is not None:
        config = _moved(config, str(path))
    dataset = prepare(config)
    if dataset.fingerprint != summary.data_sha256:
        raise InputError(
            f"{folder}: the data are no longer those the model was trained on, so its test rows "
            f"cannot be found again; evaluate all rows of a file with --data FILE"
        )
    return load(folder), dataset, config.seed


def evaluate_file(
    folder: Path, path: Path, label_map: Mapping[str, str] | None = None
) -> Examination:
    """Tests the saved model on all rows of a labelled file.

    Args:
      folder: The run.
      path: A file with the columns of training and the label.
      label_map: What labels of the file are called in the model; ``""`` leaves their rows out.

    Raises:
      InputError: The file lacks a column, or has labels that the model does not know.
    """
    summary = read_summary(folder)  # first: it vouches for what the others read
    model, config = load(folder), config_of(folder)
    named = config.data.label if isinstance(config.data.label, str) else summary.label
    label = None if named == ARRAY else named
    source = open_again(str(path), model.columns, config.data, label)

    def judged() -> Blocks:
        count = 0
        for table in source.tables():
            names = table.rows.column_names
            label = source.label if source.label in names else summary.label
            column = survey.column_named(names, str(label), source.origin, "label")
            text = labels.as_text(table, column)
            numbers = _known(text, label_map or {}, model, source.origin)
            encoded = model.columns.encode(table)
            wanted = numbers >= 0
            if (encoded.bad & wanted).any():
                raise InputError(str(encoded.complaint))
            yield from beside(numbers[wanted], model.blocks(encoded.features[wanted]))
            count += int(wanted.sum())
        if not count:
            raise InputError(f"{path}: has no labelled rows")

    majority = Majority(model.classes, np.array(summary.class_shares))
    return examined(judge_parts(judged()), majority, config.seed)


def config_of(folder: Path) -> RunConfig:
    """The config of a run, with every default filled in."""
    return load_config(folder / CONFIG)


def _known(
    text: pa.ChunkedArray, label_map: Mapping[str, str], model: Classifier, origin: str
) -> Labels:
    words = [label_map.get(word, word) for word in text.to_pylist()]
    left_out = np.array([not word for word in words])
    numbers = labels.encode(pa.chunked_array([words], pa.string()), model.classes)
    unknown = (numbers < 0) & ~left_out
    if unknown.any():
        word = words[int(np.argmax(unknown))]
        raise InputError(
            f"{origin}: the label '{word}' is none of the model's classes, "
            f"{', '.join(map(repr, model.classes[:8]))} ({int(unknown.sum())} such rows); "
            f"give it a name of these with --label-map '{word}=…', or none to leave it out"
        )
    return numbers


def _moved(config: RunConfig, path: str) -> RunConfig:
    data = config.data.model_copy(update={"path": path})
    return config.model_copy(update={"data": data})
