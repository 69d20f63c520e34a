"""Sparse text, ``LABEL INDEX:VALUE …``; read once, and only some rows at a time become dense."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from jaxsoftmax.training.config.keys import DataConfig
from jaxsoftmax.training.data.table import Source, Table
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.sparse import rows_at_a_time

from .arrays import vectors_column
from .guard import sentences
from .packed import unpacked

MOST = 1 << 22  # features, whose means and scales are written with the model


def read(path: Path, data: DataConfig) -> Source:
    """A file in the format of SVMlight and LIBSVM."""
    del data

    @functools.cache
    def whole() -> tuple[Any, Any]:
        from sklearn.datasets import load_svmlight_file

        with sentences(path), io.BufferedReader(unpacked(path)) as file:
            matrix, labels = load_svmlight_file(file)
        if matrix.shape[1] > MOST:
            raise InputError(
                f"{path}: has a feature of number {matrix.shape[1]:,}, "
                f"and at most {MOST:,} are read"
            )
        return matrix, labels

    def tables() -> Iterator[Table]:
        matrix, labels = whole()
        rows = rows_at_a_time(matrix.shape[1])
        for first in range(0, matrix.shape[0], rows):
            dense = matrix[first : first + rows].toarray()
            part = pa.table(
                {"features": vectors_column(dense), "label": labels[first : first + rows]}
            )
            yield Table(part, f"{path}", first)

    return Source(f"{path}", tables, "label", sparse=True)
