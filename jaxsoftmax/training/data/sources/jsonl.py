"""JSON lines: an object a row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.json

from jaxsoftmax.training.config.keys import DataConfig
from jaxsoftmax.training.data.table import Source, Table
from jaxsoftmax.training.errors import InputError

from .guard import sentences


def read(path: Path, data: DataConfig) -> Source:
    """A file with a JSON object in each line; ``.gz`` and ``.zst`` are unpacked on the way."""
    del data

    def tables() -> Iterator[Table]:
        with sentences(path), pa.input_stream(str(path)) as file:
            head = file.read(1 << 16)
        if head.lstrip()[:1] == b"[":
            raise InputError(
                f"{path}: is one JSON array; write an object a line, "
                f"as pandas does with df.to_json(path, orient='records', lines=True)"
            )
        with sentences(path), pa.input_stream(str(path)) as file:
            whole = pyarrow.json.read_json(
                file, read_options=pyarrow.json.ReadOptions(block_size=1 << 24)
            )
        yield Table(whole, f"{path}", place=lambda row: f"line {row + 1}")

    return Source(f"{path}", tables)
