"""JSON lines, an object a row; or one array of objects; or one object that holds a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json

from jaxsoftmax.training.config.keys import DataConfig
from jaxsoftmax.training.data.table import Source, Table
from jaxsoftmax.training.errors import InputError

from .guard import sentences
from .packed import head, unpacked

HEAD = 1 << 16


def read(path: Path, data: DataConfig) -> Source:
    """A JSON object in each line, or one document; a packed file is unpacked on the way."""
    del data

    def tables() -> Iterator[Table]:
        with sentences(path):
            whole = _of_lines(path) if _has_lines(path) else _of_document(path)
            whole.validate(full=True)  # text of a damaged file may be no UTF-8
        if not whole.num_rows:
            raise InputError(f"{path}: has no rows")
        yield Table(whole, f"{path}", place=lambda row: f"line {row + 1}")

    return Source(f"{path}", tables)


def _has_lines(path: Path) -> bool:
    """Whether more follows the first object."""
    text = head(path, HEAD).decode("utf-8", errors="replace").removeprefix("\ufeff").lstrip()
    try:
        end = json.JSONDecoder().raw_decode(text)[1]
    except json.JSONDecodeError:
        return False  # as far as is seen
    return text[:1] == "{" and bool(text[end:].strip())


def _of_lines(path: Path) -> pa.Table:
    with unpacked(path) as file:
        options = pyarrow.json.ReadOptions(block_size=1 << 24)
        return pyarrow.json.read_json(file, read_options=options)


def _of_document(path: Path) -> pa.Table:
    with unpacked(path) as file:
        text = file.read()
    try:
        found = json.loads(text, parse_constant=_number)
    except json.JSONDecodeError:
        if text.lstrip()[:1] == b"[":
            raise
        return _of_lines(path)  # whose objects are long
    if isinstance(found, dict):
        return _of_object(path, found)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise InputError(f'{path}: rows must be objects, as in [{{"a": 1, "b": 2}}, ...]')
    return pa.Table.from_pylist(found)


def _number(name: str) -> float | None:
    """What is no JSON and Python writes all the same; NaN is a value that is missing."""
    return None if name == "NaN" else float(name)


def _of_object(path: Path, found: dict[str, Any]) -> pa.Table:
    """The table in one of the objects that pandas and others write."""
    values = list(found.values())
    lists = [value for value in values if isinstance(value, list)]
    rows = [value for value in lists if value and all(isinstance(row, dict) for row in value)]
    if isinstance(found.get("columns"), list) and isinstance(found.get("data"), list):
        names = map(str, found["columns"])  # orient="split"
        return pa.table(dict(zip(names, map(list, zip(*found["data"], strict=True)), strict=True)))
    if len(rows) == 1 and (len(values) == 1 or "schema" in found):
        return pa.Table.from_pylist(rows[0])  # orient="table", or rows with a name
    if lists == values and len({len(value) for value in lists}) == 1:
        return pa.table(found)  # a list for each column
    if values and all(isinstance(value, dict) for value in values):
        if all(key.isdigit() for key in found):
            return pa.Table.from_pylist(values)  # orient="index"
        if all(key.isdigit() for value in values for key in value):
            keys = list(dict.fromkeys(key for value in values for key in value))
            return pa.table({name: [of.get(key) for key in keys] for name, of in found.items()})
        raise InputError(
            f"{path}: is one object of objects, of which none is a row for sure; write an object "
            'in each line, as pandas does with orient="records", lines=True'
        )
    return pa.Table.from_pylist([found])
