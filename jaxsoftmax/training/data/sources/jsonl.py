"""JSON lines, an object a row; or one array of objects; or one object that holds a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
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

    def tables() -> Iterator[Table]:
        with sentences(path):
            whole = _of_lines(path) if _has_lines(path) else _of_document(path, f"{data.label}")
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


def _of_document(path: Path, label: str) -> pa.Table:
    with unpacked(path) as file:
        text = file.read()
    try:
        found = json.loads(text, parse_constant=_number)
    except json.JSONDecodeError:
        if text.lstrip()[:1] == b"[":
            raise
        return _of_lines(path)  # whose objects are long
    if isinstance(found, dict):
        return _of_object(path, found, label)
    if found != [] and not _are(dict, found):
        raise InputError(f'{path}: rows must be objects, as in [{{"a": 1, "b": 2}}, ...]')
    return pa.Table.from_pylist(found)


def _number(name: str) -> float | None:
    """What is no JSON and Python writes all the same; NaN is a value that is missing."""
    return None if name == "NaN" else float(name)


def _of_object(path: Path, found: dict[str, Any], label: str) -> pa.Table:
    """The table in one of the objects that pandas and others write, or the only row."""
    values = list(found.values())
    names, data = found.get("columns"), found.get("data")
    if isinstance(names, list) and isinstance(data, list):
        if not _are(list, data) or {len(row) for row in data} != {len(names)}:
            raise InputError(
                f"{path}: data must be rows of a value for each of {len(names)} columns"
            )
        return _of_columns(path, list(map(str, names)), zip(*data, strict=True))  # orient="split"
    tables = [value for value in values if _are(dict, value)]
    if len(tables) == 1 and (len(values) == 1 or "schema" in found):
        return pa.Table.from_pylist(tables[0])  # orient="table", or rows with a name
    if _are(dict, values):
        return _of_objects(path, found, label)
    if _are(list, values) and (label in found or len(values) > 1):  # else it is a vector
        return pa.table(found)
    return pa.Table.from_pylist([found])


def _of_objects(path: Path, found: dict[str, dict[str, Any]], label: str) -> pa.Table:
    """Of columns, each an object of its rows (as pandas writes), or of rows (orient="index")."""
    values = list(found.values())
    keys = list(dict.fromkeys(key for value in values for key in value))
    of_rows = label in keys, all(map(str.isdigit, found))
    of_columns = label in found, all(map(str.isdigit, keys))
    if of_rows == of_columns:
        raise InputError(
            f"{path}: is one object of objects, of which none is a row for sure; write an object "
            'in each line, as pandas does with orient="records", lines=True'
        )
    if of_rows > of_columns:
        return pa.Table.from_pylist(values)
    return _of_columns(path, list(found), ([of.get(key) for key in keys] for of in values))


def _of_columns(path: Path, names: list[str], columns: Iterable[Iterable[Any]]) -> pa.Table:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{path}: columns repeat {', '.join(map(repr, repeated[:8]))}")
    return pa.table(dict(zip(names, map(list, columns), strict=True)))


def _are(kind: type, values: Any) -> bool:
    """Whether it is a list of such, and not empty."""
    return bool(values) and isinstance(values, list) and all(isinstance(v, kind) for v in values)
