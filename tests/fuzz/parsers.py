"""Everything that reads bytes of somebody else's: each gives a value or an `InputError`."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy

from jaxsoftmax.training import data, load
from jaxsoftmax.training.config import RunConfig, load_config
from jaxsoftmax.training.config.file import load_sweep
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.runs import checkpoints
from jaxsoftmax.training.sums import SUMS, sealed
from tests.training.odd_files import CASES

TOML = b"""seed = 3
[data]
name = "iris"
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


class Parser(NamedTuple):
    """One of them.

    Attributes:
      read: given an empty folder and the bytes of a file.
      seeds: files that are right, or nearly.
    """

    read: Callable[[Path, bytes], object]
    seeds: tuple[bytes, ...]


def _data(ending: str, **more: object) -> Parser:
    """A format of data, told by the end of the name."""

    def read(folder: Path, content: bytes) -> object:
        path = folder / f"t{ending}"
        path.write_bytes(content)
        tree = {"data": {"path": str(path), "label": "y"} | more}
        return data.prepare(RunConfig.model_validate_json(json.dumps(tree)))

    seeds = (case.content for case in CASES if case.name.lower().endswith(ending))
    return Parser(read, tuple(seed for seed in seeds if len(seed) < 20_000))


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
    """The card of a model, whose sum is right where there is one to be."""
    arrays = safetensors.numpy.save({"kernel": np.ones((2, 2), np.float32)})
    (folder / "model.safetensors").write_bytes(arrays)
    (folder / "model.json").write_bytes(content)
    return load(folder)


PARSERS = {
    "csv": _data(".csv"),
    "tsv": _data(".tsv"),
    "jsonl": _data(".jsonl"),
    "json": _data(".json"),
    "parquet": _data(".parquet"),
    "arrow": _data(".arrow"),
    "feather": _data(".feather"),
    "npz": _data(".npz"),
    "npy": _data(".npy", labels_path=None),
    "safetensors": _data(".safetensors", label="labels"),
    "svmlight": _data(".svm"),
    "idx": _data("-ubyte"),
    "toml": _config("c.toml", TOML),
    "config": _config("c.json", b'{"seed": 3, "data": {"name": "iris"}}'),
    "setting": Parser(_setting, (b"solver.epochs=3", b'data={name="wine"}', b"model.l2 = 1e-3")),
    "sums": Parser(_sums, (f"{hashlib.sha256(b'a').hexdigest()}  a\n".encode(),)),
    "card": _checkpoint(checkpoints.CARD),
    "arrays": _checkpoint(checkpoints.ARRAYS),
    "model": Parser(_model, (json.dumps(MODEL).encode(),)),
}


def outcome(parser: Parser, folder: Path, content: bytes) -> None:
    """Reads; whatever is no refusal in words goes through."""
    with contextlib.suppress(InputError):
        parser.read(folder, content)
