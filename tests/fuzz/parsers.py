"""Everything that reads bytes of somebody else's: each gives a value or an `InputError`."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import safetensors.numpy
from pydantic import ValidationError

from jaxsoftmax.training import data, load, prediction
from jaxsoftmax.training.config import RunConfig, load_config
from jaxsoftmax.training.config.file import load_sweep
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.model import files as model_files
from jaxsoftmax.training.runs import checkpoints
from jaxsoftmax.training.sums import SUMS, sealed
from tests.training.odd_files import CASES

TOML = b"""seed = 3
[data]
name = "iris"
[model]
l2 = 1e-3
[solver]
name = "adam"
epochs = 3
learning_rate = 0.1
schedule = { name = "piecewise", epochs = [1, 2], factors = [0.5, 0.1] }
"""
KEPT = Path(__file__).parents[1] / "faults" / "kept" / "jaxsoftmax-checkpoint-1" / "00000030"
MODEL = {
    "format": "jaxsoftmax-linear-3",
    "classes": ["a", "b"],
    "columns": {
        "columns": [
            {"kind": "vector", "name": "x", "mean": [0.0, 1.0], "scale": [1.0, 2.0]},
        ]
    },
    "versions": {},
}
NAMED = MODEL | {
    "columns": {
        "columns": [
            {"kind": "number", "name": "a", "mean": 3.0, "scale": 2.0},
            {"kind": "category", "name": "b", "values": ["1"]},
        ]
    }
}


class Parser(NamedTuple):
    """One of them.

    Attributes:
      read: given an empty folder and the bytes of a file.
      seeds: files that are right, or nearly.
    """

    read: Callable[[Path, bytes], object]
    seeds: tuple[bytes, ...]


def _data(ending: str, *more: bytes, **keys: object) -> Parser:
    """A format of data, told by the end of the name; with more seeds and other keys of [data]."""

    def read(folder: Path, content: bytes) -> object:
        path = folder / f"t{ending}"
        path.write_bytes(content)
        return _prepared({"path": str(path), "label": "y"} | keys)

    seeds = (case.content for case in CASES if case.name.lower().endswith(ending))
    return Parser(read, (*more, *(seed for seed in seeds if len(seed) < 20_000)))


def _prepared(section: dict[str, object]) -> object:
    return data.prepare(RunConfig.model_validate_json(json.dumps({"data": section})))


def _beside(name: str, other: str, content: bytes, seed: bytes) -> Parser:
    """One of the two files of features and labels, with a right one as the other."""

    def read(folder: Path, found: bytes) -> object:
        (folder / name).write_bytes(found)
        (folder / other).write_bytes(content)
        features, labels = sorted((folder / name, folder / other))
        return _prepared({"path": str(features), "labels_path": str(labels)})

    return Parser(read, (seed,))


def _saved_dataset(folder: Path, content: bytes) -> object:
    """``state.json`` of a folder that ``Dataset.save_to_disk`` wrote."""
    (folder / "state.json").write_bytes(content)
    rows = pa.table({"x": np.arange(24.0) % 7 / 3, "y": [f"{i % 2}" for i in range(24)]})
    with pa.ipc.new_stream(folder / "a.arrow", rows.schema) as writer:
        writer.write_table(rows)
    return _prepared({"path": str(folder), "label": "y"})


def _config(name: str, *seeds: bytes) -> Parser:
    def read(folder: Path, content: bytes) -> object:
        (folder / name).write_bytes(content)
        with contextlib.suppress(InputError):
            load_sweep(folder / name)
        return load_config(folder / name)

    return Parser(read, seeds)


def _setting(folder: Path, content: bytes) -> object:
    (folder / "c.toml").write_bytes(TOML)
    return load_config(folder / "c.toml", [content.decode("utf-8", "replace")])


def _sums(folder: Path, content: bytes) -> object:
    (folder / "a").write_bytes(b"a")
    (folder / SUMS).write_bytes(content)
    return sealed(folder, "a")


def _checkpoint(name: str) -> Parser:
    """One file of a checkpoint, vouched for, as by somebody who can write both."""

    def read(folder: Path, content: bytes) -> object:
        path = folder / "00000030"
        path.mkdir(exist_ok=True)
        files = {
            file: (KEPT / file).read_bytes() for file in (checkpoints.CARD, checkpoints.ARRAYS)
        }
        files[name] = content
        for file, inside in files.items():
            (path / file).write_bytes(inside)
        lines = [
            f"{hashlib.sha256(inside).hexdigest()}  {file}\n" for file, inside in files.items()
        ]
        (path / SUMS).write_text("".join(lines))
        return checkpoints.read(path)

    return Parser(read, ((KEPT / name).read_bytes(),))


def _model(folder: Path, content: bytes) -> object:
    """The card of a model, vouched for where it is one."""
    return _loaded(folder, content, ARRAYS)


def _weights(folder: Path, content: bytes) -> object:
    """The arrays of a model, vouched for."""
    return _loaded(folder, json.dumps(MODEL).encode(), content)


def _loaded(folder: Path, text: bytes, arrays: bytes) -> object:
    with contextlib.suppress(ValidationError):
        card = model_files.ModelCard.model_validate_json(text)
        text = card.model_copy(update={"sha256": card.digest(arrays)}).model_dump_json().encode()
    (folder / model_files.ARRAYS).write_bytes(arrays)
    (folder / model_files.CARD).write_bytes(text)
    return load(folder)


def _predicted(folder: Path, content: bytes) -> object:
    """Rows for a model that there is."""
    _model(folder, json.dumps(NAMED).encode())
    (folder / "rows.csv").write_bytes(content)
    answer = prediction.Answer(on_bad_row="skip")
    return prediction.predict(folder, folder / "rows.csv", folder / "out.csv", answer)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


ROWS = np.arange(48, dtype=np.float32).reshape(24, 2)
LABELS = np.arange(24, dtype=np.uint8) % 2
IDX = struct.pack(">HBBI", 0, 8, 1, 24) + LABELS.tobytes()
IMAGES = struct.pack(">HBBII", 0, 8, 2, 24, 2) + ROWS.astype(np.uint8).tobytes()
CSV = b"a,b,y\n" + b"".join(b"%d,%d,%d\n" % (i, i % 5, i % 2) for i in range(24))
STATE = b'{"_data_files": [{"filename": "a.arrow"}], "_format_type": null}'
ARRAYS = safetensors.numpy.save({"kernel": np.ones((2, 2), np.float32)})

PARSERS = {
    "csv": _data(".csv"),
    "tsv": _data(".tsv"),
    "jsonl": _data(".jsonl"),
    "json": _data(".json"),
    "parquet": _data(".parquet"),
    "arrow": _data(".arrow"),
    "feather": _data(".feather"),
    "npz": _data(".npz"),
    "npy": _beside("a.npy", "b.npy", _npy(LABELS), _npy(ROWS)),
    "labels": _beside("b.txt", "a.npy", _npy(ROWS), b" ".join(b"%d" % label for label in LABELS)),
    "safetensors": _data(".safetensors", label="labels"),
    "svmlight": _data(".svm"),
    "idx": _beside("a-ubyte", "b-ubyte", IDX, IMAGES),
    "gzip": _data(".csv.gz", gzip.compress(CSV, mtime=0)),
    "saved dataset": Parser(_saved_dataset, (STATE,)),
    "toml": _config("c.toml", TOML),
    "config": _config("c.json", b'{"seed": 3, "data": {"name": "iris"}}'),
    "setting": Parser(_setting, (b"solver.epochs=3", b'data={name="wine"}', b"model.l2 = 1e-3")),
    "sums": Parser(_sums, (f"{hashlib.sha256(b'a').hexdigest()}  a\n".encode(),)),
    "card": _checkpoint(checkpoints.CARD),
    "arrays": _checkpoint(checkpoints.ARRAYS),
    "model": Parser(_model, (json.dumps(MODEL).encode(), json.dumps(NAMED).encode())),
    "weights": Parser(_weights, (ARRAYS,)),
    "rows": Parser(_predicted, (CSV,)),
}


def outcome(parser: Parser, folder: Path, content: bytes) -> None:
    """Reads; whatever is no refusal in words goes through."""
    with contextlib.suppress(InputError):
        parser.read(folder, content)
