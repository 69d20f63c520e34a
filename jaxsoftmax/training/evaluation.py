"""Testing a model on labelled rows: those of its own run, or any files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from .config import RunConfig, load_config
from .config.keys import DataConfig
from .data import labels, prepare, survey
from .data.labels import Labels
from .data.sources import open_source
from .errors import InputError
from .model import Classifier, load
from .report.scores import Examination, Majority, examine
from .runs.folder import CONFIG, read_summary


def evaluate(folder: Path, path: Path | None = None) -> Examination:
    """Tests the saved model again, on the same rows.

    Args:
      folder: The run.
      path: Where the data are now, if not where the config says.

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
    model, part = load(folder), dataset.part("test")
    return examine(model, part.features, part.labels, Majority.of(dataset), config.seed)


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
    model, config, summary = load(folder), config_of(folder), read_summary(folder)
    data = DataConfig.model_validate(
        {"path": str(path), "label": summary.label, "array": config.data.array}
    )
    source = open_source(data)
    names, features, found = None, [], []
    for table in source.tables():
        names = names or table.rows.column_names
        label = source.label if source.label in names else summary.label
        column = survey.column_named(names, str(label), source.origin, "label")
        text = labels.as_text(table.rows[column])
        numbers = _known(text, label_map or {}, model, source.origin)
        encoded = model.columns.encode(table)
        wanted = numbers >= 0
        if (encoded.bad & wanted).any():
            raise InputError(str(encoded.complaint))
        features.append(encoded.features[wanted])
        found.append(numbers[wanted])
    if not sum(map(len, found)):
        raise InputError(f"{path}: has no labelled rows")
    majority = Majority(model.classes, np.array(summary.class_shares))
    return examine(model, np.concatenate(features), np.concatenate(found), majority, config.seed)


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
