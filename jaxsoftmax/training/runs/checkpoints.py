"""The state of a run on disk: ``checkpoints/<steps>/`` holds ``state.json`` and its arrays.

A checkpoint is written beside its place, made lasting, and renamed, so that there is a whole one or
none. Reading one checks the SHA-256 of every byte; if the newest is damaged, the one before it
is taken, and that is said.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import ValidationError

from jaxsoftmax.training import tensors
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.data import Columns
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.files import naming, sync_folder, write_file
from jaxsoftmax.training.model.files import versions
from jaxsoftmax.training.schema import Section
from jaxsoftmax.training.sums import seal, sealed

from .state import Best, Leaves, Position, Record, RunState

FOLDER = "checkpoints"
CARD = "state.json"
ARRAYS = "arrays.safetensors"
UNFINISHED = ".unfinished"


class Card(Section, allow_inf_nan=True, ser_json_inf_nan="constants"):
    """The contents of ``state.json``: all of a `RunState` that is no array."""

    format: Literal["jaxsoftmax-checkpoint-1"] = "jaxsoftmax-checkpoint-1"
    steps: int
    config: RunConfig
    fingerprint: str
    columns: Columns
    classes: tuple[str, ...]
    validation_loss: float
    position: Position
    records: tuple[Record, ...]
    versions: dict[str, str] = {}


class Head(Section, extra="ignore"):
    """What every format of ``state.json`` has told of itself."""

    format: str = "none"
    versions: dict[str, str] = {}


class OtherVersionError(InputError):
    """A checkpoint that is whole, and that this version cannot read."""


class Checkpoint(NamedTuple):
    """A checkpoint as it was read.

    Attributes:
      path: where it lies.
      card: what is no array.
      arrays: by their names in the tree of `Leaves`.
    """

    path: Path
    card: Card
    arrays: dict[str, np.ndarray]


def save(folder: Path, steps: int, state: RunState, keep: int) -> Path:
    """Writes ``checkpoints/<steps>``, and then removes all but the newest ``keep``.

    Raises:
      OSError: it cannot be written; its ``filename`` says where. All older ones are as before.
    """
    place = place_of(folder, steps)
    parent, unfinished = place.parent, place.with_name(UNFINISHED)
    card = Card(
        steps=steps,
        config=state.config,
        fingerprint=state.fingerprint,
        columns=state.columns,
        classes=state.classes,
        validation_loss=state.best.validation_loss,
        position=state.position,
        records=state.records,
        versions=versions(),
    )
    arrays = _named(state.leaves)
    content = tensors.pack({name: np.asarray(leaf) for name, leaf in arrays.items()})
    with naming(place):
        _own(parent)
        for stale in parent.glob(f"{UNFINISHED}*"):  # of a process that was killed
            shutil.rmtree(stale)
        try:
            unfinished.mkdir()
            write_file(unfinished / ARRAYS, content)
            write_file(unfinished / CARD, card.model_dump_json().encode())
            seal(unfinished, (ARRAYS, CARD))
            _remove(place)  # one of the same steps that was found damaged
            unfinished.rename(place)
            sync_folder(parent)
        except BaseException:
            with contextlib.suppress(OSError):
                shutil.rmtree(unfinished)
            raise
    older = [number for number in numbers(folder) if number < steps]
    for old in older[: max(0, len(older) - (keep - 1))]:
        _remove(place_of(folder, old))
    return place


def place_of(folder: Path, steps: int) -> Path:
    """Where a run folder has the checkpoint after so many steps."""
    return folder / FOLDER / f"{steps:08d}"


def numbers(folder: Path) -> list[int]:
    """The steps of the checkpoints in a run folder, ascending; whether they are whole or not."""
    try:
        names = [path.name for path in (folder / FOLDER).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def latest(folder: Path, warn: Callable[[str], None]) -> Checkpoint:
    """The newest checkpoint that is whole; ``warn`` is told of each that is not.

    Raises:
      InputError: there is none.
      OtherVersionError: the newest that is whole is of another version; an older one would lose steps.
    """
    found = numbers(folder)
    for steps in reversed(found):
        path = place_of(folder, steps)
        try:
            return read(path)
        except OtherVersionError:
            raise
        except InputError as error:
            warn(f"{error}; this checkpoint is not used")
    if found:
        raise InputError(f"{folder}: none of its {len(found)} checkpoints is whole")
    raise InputError(f"{folder}: holds no checkpoint to resume from")


def read(path: Path) -> Checkpoint:
    """Reads one checkpoint.

    Raises:
      InputError: anything about it is not as it was written.
      OtherVersionError: it is, by another version.
    """
    for place in (path.parent, path):
        if place.is_symlink():
            raise InputError(f"{place}: is a link; a checkpoint lies in its run's folder")
    text, content = sealed(path, CARD), sealed(path, ARRAYS)
    try:
        card = Card.model_validate_json(text)
    except ValidationError as error:  # of what is as it was written
        raise _of_another_version(path / CARD, text, error) from None
    try:
        arrays = tensors.unpack(content)
    except ValueError as error:
        raise InputError(f"{path / ARRAYS}: is no safetensors file: {error}") from None
    if int(path.name) != card.steps:
        raise InputError(f"{path}: is the checkpoint of {card.steps} steps under another name")
    return Checkpoint(path, card, arrays)


def _of_another_version(path: Path, text: bytes, error: ValidationError) -> InputError:
    try:
        head = Head.model_validate_json(text)
    except ValidationError:
        head = Head()
    detail = error.errors()[0]
    place = ".".join(map(str, detail["loc"]))
    by = f"jaxsoftmax {head.versions.get('jaxsoftmax', 'of another version')}"
    return OtherVersionError(
        f"{path}: is whole and cannot be read by this version: {place}: {detail['msg']}. "
        f"It has the format {head.format!r} and was written by {by}; go on with that"
    )


def differences(checkpoint: Checkpoint, shapes: Leaves) -> list[str]:
    """Where the arrays of a checkpoint are not those of the run: a sentence for each."""
    there = {name: _kind(array) for name, array in checkpoint.arrays.items()}
    here = {name: _kind(leaf) for name, leaf in _named(shapes).items()}
    return [
        f"{name}: was {there.get(name, 'not there')}, is {here.get(name, 'not there')}"
        for name in dict.fromkeys([*there, *here])
        if there.get(name) != here.get(name)
    ]


def restore(checkpoint: Checkpoint, shapes: Leaves) -> RunState:
    """The state that was saved; ``shapes`` has the tree that its arrays belong to."""
    card, arrays = checkpoint.card, checkpoint.arrays
    structure = jax.tree.structure(shapes)
    leaves: Leaves = jax.tree.unflatten(
        structure, [jnp.asarray(arrays[name]) for name in _named(shapes)]
    )
    return RunState(
        card.config,
        card.fingerprint,
        card.columns,
        card.classes,
        leaves.solver,
        Best(leaves.best, card.validation_loss),
        card.position,
        card.records,
    )


def remove(folder: Path) -> None:
    """Removes all checkpoints of a run."""
    if (folder / FOLDER).is_dir():
        shutil.rmtree(folder / FOLDER)


def _named(tree: Any) -> Mapping[str, Any]:
    """The leaves by their paths, as in ``solver.params.kernel``."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _kind(array: Any) -> str:
    return f"{array.dtype} {tuple(array.shape)}"


def _own(parent: Path) -> None:
    """A folder of the run's own: what a link leads to is somebody else's."""
    if parent.is_symlink():
        raise InputError(f"{parent}: is a link; checkpoints lie in their run's folder")
    parent.mkdir(exist_ok=True)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        # A name that is no number is no checkpoint: one that is half removed is not found.
        doomed = path.with_name(f"{UNFINISHED}-{path.name}")
        path.rename(doomed)
        shutil.rmtree(doomed)
