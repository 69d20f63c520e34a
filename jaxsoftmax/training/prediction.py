"""Classifying rows of files, a block at a time."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from .config import load_config
from .data import Table
from .data.again import open_again
from .data.survey import column_named
from .data.table import Source
from .errors import InputError
from .model import Classifier, load
from .runs.folder import CONFIG

OnBadRow = Literal["error", "skip", "nan"]


class Answer(NamedTuple):
    """What is written of each row.

    Attributes:
      keep: columns of the input that are passed on.
      top: only the most probable classes, and how probable; all when None.
      classes_only: only the most probable class.
      on_bad_row: what happens to a row that cannot be read: `skip` leaves it out, `nan` leaves its
        answers empty.
    """

    keep: Sequence[str] = ()
    top: int | None = None
    classes_only: bool = False
    on_bad_row: OnBadRow = "error"


class Done(NamedTuple):
    """How many rows were answered, and how many could not be read."""

    rows: int
    bad: int
    unseen: dict[str, int]


def predict(folder: Path, source: Path, output: Path | None, answer: Answer = Answer()) -> Done:  # noqa: B008 - immutable
    """Classifies the rows of a file: CSV, Parquet, Arrow, JSON lines or NPY.

    Args:
      folder: The run.
      source: The file; ``-`` is CSV from standard input.
      output: The CSV to write, whole or not at all; None is standard output.
      answer: What is written of each row.

    Raises:
      InputError: The file lacks a column, a row cannot be read, or output and input are one file.
    """
    model = load(folder)
    if output is not None and output.exists() and source.exists() and output.samefile(source):
        raise InputError(f"{output}: is the input; predictions are never written over it")
    with _input(source) as path, _writer(output) as sink:
        # A model by itself, without its run, does not know how its rows were read.
        config = load_config(folder / CONFIG) if (folder / CONFIG).exists() else None
        rows = open_again(str(path), model.columns, None if config is None else config.data)
        return _predict(model, rows, sink, answer)


def _predict(model: Classifier, source: Source, sink: IO[bytes], answer: Answer) -> Done:
    rows = bad = 0
    unseen: dict[str, int] = {}
    writer = None
    for table in source.tables():
        encoded = model.columns.encode(table)
        if encoded.complaint is not None and answer.on_bad_row == "error":
            raise InputError(f"{encoded.complaint}; --on-bad-row skip or nan goes on")
        for name, count in encoded.unseen.items():
            unseen[name] = unseen.get(name, 0) + count
        features = (
            np.nan_to_num(encoded.features, nan=0.0, posinf=0.0, neginf=0.0)
            if encoded.bad.any()
            else encoded.features
        )
        block = _answers(model, model.probabilities(features), answer)
        block = {**_kept(table, answer.keep), **block}
        out = pa.table(block)
        if encoded.bad.any():
            out = _without(out, encoded.bad, answer)
        writer = writer or pyarrow.csv.CSVWriter(
            sink, out.schema, write_options=pyarrow.csv.WriteOptions(quoting_style="needed")
        )
        writer.write_table(out)
        rows += out.num_rows
        bad += int(encoded.bad.sum())
    if writer is not None:
        writer.close()
    return Done(rows, bad, {name: count for name, count in unseen.items() if count})


def _answers(model: Classifier, probabilities: np.ndarray, answer: Answer) -> dict[str, pa.Array]:
    classes = pa.array(model.classes)
    if answer.classes_only:
        return {"prediction": classes.take(pa.array(probabilities.argmax(axis=1)))}
    if answer.top is not None:
        count = min(answer.top, len(model.classes))
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
        shares = np.take_along_axis(probabilities, order, axis=1)
        columns = {}
        for i in range(count):
            columns[f"prediction {i + 1}"] = classes.take(pa.array(order[:, i]))
            columns[f"p {i + 1}"] = pa.array(shares[:, i])
        return columns
    columns = {"prediction": classes.take(pa.array(probabilities.argmax(axis=1)))}
    for i, name in enumerate(model.classes):
        columns[f"p({name})"] = pa.array(np.ascontiguousarray(probabilities[:, i]))
    return columns


def _kept(table: Table, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    have = table.rows.column_names
    return {name: table.rows[column_named(have, name, table.origin, "--keep")] for name in names}


def _without(out: pa.Table, bad: np.ndarray, answer: Answer) -> pa.Table:
    """Bad rows are left out, or have no answer."""
    if answer.on_bad_row == "skip":
        return out.filter(pa.array(~bad))
    mask = pa.array(bad)
    for i, name in enumerate(out.column_names):
        if name not in answer.keep:
            column = out.column(i)
            empty = pa.scalar(None, column.type)
            out = out.set_column(i, name, pa.compute.if_else(mask, empty, column))
    return out


@contextmanager
def _input(source: Path) -> Iterator[Path]:
    """The path of the input; standard input is put in a file, as its beginning is read twice."""
    if str(source) != "-":
        yield source
        return
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        yield Path(file.name)


@contextmanager
def _writer(output: Path | None) -> Iterator[IO[bytes]]:
    """Standard output, or a file that appears when it is complete."""
    if output is None:
        buffer = getattr(sys.stdout, "buffer", None)
        if buffer is not None:
            yield buffer
            buffer.flush()
            return
        text = io.BytesIO()
        yield text
        sys.stdout.write(text.getvalue().decode())
        return
    handle, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}-")
    unfinished = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        unfinished.chmod(0o644)
        unfinished.replace(output)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
