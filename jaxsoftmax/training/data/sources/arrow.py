"""Parquet, Arrow and Feather files, and folders that Hugging Face datasets saved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from jaxsoftmax.training.config.keys import DataConfig
from jaxsoftmax.training.data.table import Source, Table
from jaxsoftmax.training.errors import InputError

from .guard import sentences

ROWS = 65_536  # at a time


def read_parquet(path: Path, data: DataConfig) -> Source:
    """A Parquet file, a row group after the other."""
    del data  # says nothing about this format

    def tables() -> Iterator[Table]:
        with sentences(path), pa.OSFile(str(path)) as file:
            yield from _numbered(path, pyarrow.parquet.ParquetFile(file).iter_batches(ROWS))

    return Source(f"{path}", tables)


def read_ipc(path: Path, data: DataConfig) -> Source:
    """An Arrow file, a stream, or Feather; memory-mapped."""
    del data

    def tables() -> Iterator[Table]:
        with sentences(path):
            yield from _numbered(path, _ipc_batches(path))

    return Source(f"{path}", tables)


def read_saved_dataset(path: Path, data: DataConfig) -> Source:
    """A folder that ``Dataset.save_to_disk`` wrote: Arrow streams, listed in ``state.json``."""
    del data

    def batches() -> Iterator[pa.RecordBatch]:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        for entry in state["_data_files"]:
            name = entry["filename"]
            if Path(name).name != name:
                raise InputError(f"{path}: state.json names a file outside of the folder: {name}")
            yield from _ipc_batches(path / name)

    def tables() -> Iterator[Table]:
        if not (path / "state.json").exists():
            raise InputError(f"{path}: has several data sets; name the folder of one of them")
        with sentences(path):
            yield from _numbered(path, batches())

    return Source(f"{path}", tables)


def _ipc_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as file:
        if file.read(6) == b"ARROW1":
            reader = pyarrow.ipc.open_file(file)
            for i in range(reader.num_record_batches):
                yield reader.get_batch(i)
        else:
            file.seek(0)
            yield from pyarrow.ipc.open_stream(file)


def _numbered(path: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[Table]:
    first = 0
    for batch in batches:
        if len(set(batch.schema.names)) < len(batch.schema.names):
            raise InputError(f"{path}: several columns have one name")
        batch.validate(full=True)  # offsets of a damaged file would lead out of memory
        for start in range(0, batch.num_rows, ROWS):
            part = batch.slice(start, ROWS)
            yield Table(pa.Table.from_batches([part]), f"{path}", first)
            first += part.num_rows
    if not first:
        raise InputError(f"{path}: has no rows")
