"""JSON lines, an object a row; or one array of objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.json

from jaxsoftmax.training.config.keys import DataConfig
from jaxsoftmax.training.data.table import Source, Table
from jaxsoftmax.training.errors import InputError

from .guard import sentences
from .packed import head, unpacked


def read(path: Path, data: DataConfig) -> Source:
    """A JSON object in each line, or one array of them; a packed file is unpacked on the way."""
    del data

    def tables() -> Iterator[Table]:
        with sentences(path):
            start = head(path, 1 << 16)
        with sentences(path), unpacked(path) as file:
            if start.lstrip()[:1] == b"[":
                whole = pa.Table.from_pylist(json.loads(file.read()))
            else:
                options = pyarrow.json.ReadOptions(block_size=1 << 24)
                whole = pyarrow.json.read_json(file, read_options=options)
            whole.validate(full=True)  # text of a damaged file may be no UTF-8
        if not whole.num_rows:
            raise InputError(f"{path}: has no rows")
        yield Table(whole, f"{path}", place=lambda row: f"line {row + 1}")

    return Source(f"{path}", tables)
