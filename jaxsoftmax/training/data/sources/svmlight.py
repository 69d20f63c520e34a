"""Sparse text, ``LABEL INDEX:VALUE …``; only some rows at a time become dense."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from jaxsoftmax.training.config.keys import DataConfig
from jaxsoftmax.training.data.table import Source, Table

from .arrays import vectors_column
from .guard import sentences

DENSE = 1 << 24  # numbers at a time


def read(path: Path, data: DataConfig) -> Source:
    """A file in the format of SVMlight and LIBSVM."""
    del data

    def tables() -> Iterator[Table]:
        from sklearn.datasets import load_svmlight_file

        with sentences(path):
            matrix, labels = load_svmlight_file(str(path))
        rows = max(1, DENSE // max(1, matrix.shape[1]))
        for first in range(0, matrix.shape[0], rows):
            dense = matrix[first : first + rows].toarray()
            part = pa.table(
                {"features": vectors_column(dense), "label": labels[first : first + rows]}
            )
            yield Table(part, f"{path}", first)

    return Source(f"{path}", tables, "label")
