"""Classifying rows of files."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import pyarrow as pa

from .data import Table
from .data.readers import read_feature_csv, read_npy
from .errors import InputError
from .model import load


def predict(folder: Path, source: Path) -> str:
    """Classifies the rows of a ``.npy`` or ``.csv`` file.

    Returns:
      CSV text: a header, then per row the class and the probability of each class.
    """
    model = load(folder)
    names = [column.name for column in model.columns.columns]
    match source.suffix:
        case ".npy":
            features = read_npy(source, len(names))
        case ".csv":
            features = read_feature_csv(source, names)
        case _:
            raise InputError(f"{source}: expected a .npy or .csv file of features")
    table = Table(pa.table(dict(zip(names, features.T, strict=True))), f"{source}")
    found = model.predict(table)
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["prediction", *(f"p({name})" for name in model.classes)])
    for label, row in zip(found.labels, found.probabilities, strict=True):
        writer.writerow([label, *(f"{p:.9g}" for p in row)])
    return text.getvalue()
