"""The data of a run of several processes: the first reads the source, the others map what it has made.

The place is a folder in ``[data] cache`` that all of them see; where there is none, each reads for itself.
A process that waits looks for a file and for the folder. So one that has failed is noticed by its
folder being gone, and one that was killed by JAX, which then ends all others.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxsoftmax.training import data
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.data import Dataset, cache
from jaxsoftmax.training.data.columns import Columns
from jaxsoftmax.training.data.dataset import Spans
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.files import write_file
from jaxsoftmax.training.schema import Section
from jaxsoftmax.training.sparse import SparseRows

from . import processes

CARD = "dataset.json"  # written last: where it is, all else is there
LOOK = 0.1  # seconds between two looks for it
LONGEST = 4096  # bytes of a path


class Card(Section):
    """What a `Dataset` has beside its arrays; ``dense`` is the file of its features, if they are."""

    columns: Columns
    classes: tuple[str, ...]
    parts: tuple[tuple[int, int], ...]
    fingerprint: str
    origin: str
    label: str
    dropped: dict[str, str]
    notes: tuple[str, ...]
    shape: tuple[int, int]
    dense: str | None


def prepare(config: RunConfig, tell: Callable[[str], None]) -> Dataset:
    """The rows of a config, in every process.

    Args:
      config: the same in all, but for the place of the data.
      tell: called with a sentence where each has to read for itself.

    Raises:
      InputError: configs or data are not the same in all, or the data cannot be read.
    """
    if not jax.distributed.is_initialized():
        return data.prepare(config)
    meant = config.model_dump_json(exclude={"data"}).encode()
    processes.check_same("the config (beside [data])", hashlib.sha256(meant).hexdigest())
    dataset = _read(config, tell)
    processes.check_same(dataset.origin, dataset.fingerprint)
    return dataset


def _read(config: RunConfig, tell: Callable[[str], None]) -> Dataset:
    """Of the source, or of what the first process has made of it."""
    folder = _agreed_on(_made(config) if processes.first() else None)
    if folder is None:
        tell(
            f"note: the processes share no folder at {cache.folder(config.data)}, so that each "
            f"reads all of the source; [data] cache = … may name one that all see"
        )
        return data.prepare(config)
    if not processes.first():
        return _awaited(folder)
    there = config.data.model_copy(update={"cache": str(folder)})
    dataset = data.prepare(config.model_copy(update={"data": there}))
    write(dataset, folder)
    return dataset


def write(dataset: Dataset, folder: Path) -> None:
    """Leaves a dataset where `read` finds it; dense features that lie in a file there stay where they are."""
    features: Any = dataset.features
    if isinstance(features, SparseRows):
        for name in ("columns", "values", "base"):
            _save(folder / f"{name}.npy", getattr(features, name))
    else:
        features.flush()
    for name in ("labels", "weights", "rows"):
        _save(folder / f"{name}.npy", getattr(dataset, name))
    card = Card(
        columns=dataset.columns,
        classes=dataset.classes,
        parts=tuple((part.start, part.stop) for part in dataset.parts),
        fingerprint=dataset.fingerprint,
        origin=dataset.origin,
        label=dataset.label,
        dropped=dataset.dropped,
        notes=dataset.notes,
        shape=features.shape,
        dense=None if isinstance(features, SparseRows) else Path(features.filename).name,
    )
    write_file(folder / CARD, card.model_dump_json().encode())


def read(folder: Path) -> Dataset:
    """The dataset that `write` has left; its features are mapped, and not read."""
    card = Card.model_validate_json((folder / CARD).read_bytes())
    if card.dense is None:
        features: Any = SparseRows(
            *(_mapped(folder, name) for name in ("columns", "values", "base"))
        )
    else:
        features = np.memmap(folder / card.dense, np.float32, "r", shape=card.shape)
    labels, weights, rows = (
        np.load(folder / f"{name}.npy", allow_pickle=False)
        for name in ("labels", "weights", "rows")
    )
    return Dataset(
        features,
        labels,
        weights,
        rows,
        card.classes,
        card.columns,
        Spans(*(slice(*part) for part in card.parts)),
        card.fingerprint,
        card.origin,
        card.label,
        card.dropped,
        card.notes,
    )


def _made(config: RunConfig) -> Path | None:
    """A new folder that goes with this process; None where none can be made."""
    parent = cache.folder(config.data).absolute()
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="data-", dir=parent))
    except OSError:
        return None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _agreed_on(folder: Path | None) -> Path | None:
    """The folder of the first process, if all processes see it."""
    name = os.fsencode(folder or "")[:LONGEST].ljust(LONGEST, b"\0")
    said = multihost_utils.broadcast_one_to_all(np.frombuffer(name, np.uint8))
    path = Path(os.fsdecode(bytes(np.asarray(said)).rstrip(b"\0")))
    sees = path.is_absolute() and path.is_dir()
    all_see = np.asarray(multihost_utils.process_allgather(np.array(sees))).all()
    return path if all_see else None


def _awaited(folder: Path) -> Dataset:
    """What the first process leaves, when it has."""
    while not (folder / CARD).exists():
        if not folder.exists():
            raise InputError("the first process could not read the data, and says why")
        time.sleep(LOOK)
    try:
        return read(folder)
    except FileNotFoundError:
        raise InputError("the first process has ended before the run began") from None


def _mapped(folder: Path, name: str) -> Any:
    return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)


def _save(path: Path, array: Any) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
