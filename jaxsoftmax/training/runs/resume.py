"""Going on with a run that was saved: on the same config and rows, or with changes that are named."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.data import Dataset
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.model.files import versions

from . import checkpoints, loop
from .checkpoints import Card, Checkpoint
from .state import RunState

# Where data lie is told by their fingerprint; how a run is kept and spread decides nothing of it.
FREE = (
    "data.path",
    "data.labels_path",
    "data.memory",
    "data.cache",
    "split.validation_path",
    "split.test_path",
    "checkpoint",
    "mesh",
    "distributed",
)


class Change(NamedTuple):
    """Something that is not as it was when a run was saved."""

    name: str
    before: str
    now: str

    def allowed(self, names: Collection[str]) -> bool:
        """Whether it, or the section it belongs to, is among the names."""
        return any(self.name == name or self.name.startswith(f"{name}.") for name in names)


def check(
    checkpoint: Checkpoint, config: RunConfig, dataset: Dataset, allowed: Collection[str]
) -> None:
    """Refuses changes that are not allowed.

    Args:
      checkpoint: where the run was.
      config: what it is to follow now.
      dataset: the rows there are now.
      allowed: names of keys (``solver.learning_rate``), sections (``solver``), or ``data``.

    Raises:
      InputError: with every change that is not allowed, one line each.
    """
    found = list(changes(checkpoint.card, config, dataset))
    refused = [change for change in found if not change.allowed(allowed)]
    if not refused:
        return
    lines = [f"{change.name}: was {change.before}, is {change.now}" for change in refused]
    names = ",".join(dict.fromkeys(change.name for change in refused))
    raise InputError(
        "\n".join(
            [
                f"{checkpoint.path}: was saved by a run that differs:",
                *(f"  {line}" for line in lines),
                f"undo this, or go on all the same with --allow-change {names}",
            ]
        )
    )


def changes(card: Card, config: RunConfig, dataset: Dataset) -> Iterator[Change]:
    """All that differs between a run as it was saved and as it is now."""
    before, now = _flat(card.config.model_dump()), _flat(config.model_dump())
    for name in dict.fromkeys([*before, *now]):
        was, is_ = (_shown(tree, name) for tree in (before, now))
        if was != is_ and not any(name == free or name.startswith(f"{free}.") for free in FREE):
            yield Change(name, was, is_)
    if card.fingerprint != dataset.fingerprint:
        yield Change("data", f"rows {card.fingerprint[:12]}", f"rows {dataset.fingerprint[:12]}")
    for what, old, new in (
        ("classes", card.classes, dataset.classes),
        ("features", card.columns.features, dataset.columns.features),
    ):
        if old != new:
            yield Change(f"data.{what}", _some(old), _some(new))


def other_versions(card: Card) -> str:
    """The packages that were others when a run was saved, for people; empty if none was."""
    now = versions()
    return ", ".join(
        f"{name} {was} (now {now[name]})"
        for name, was in card.versions.items()
        if name in now and now[name] != was
    )


def state_of(job: loop.Job, checkpoint: Checkpoint) -> RunState:
    """The state that was saved, as one of this job.

    Raises:
      InputError: its arrays have other shapes or types, which no permission can mend.
    """
    card = checkpoint.card
    if card.position.stage > len(job.path):
        raise InputError(f"{checkpoint.path}: is of a path of penalties, and l2 is a number now")
    shapes = loop.shapes(job, card.position, card.records)
    misfits = checkpoints.differences(checkpoint, shapes)
    if misfits:
        raise InputError(
            "\n".join(
                [
                    f"{checkpoint.path}: its arrays are not those of this model and solver:",
                    *(f"  {line}" for line in misfits),
                ]
            )
        )
    return loop.taken_up(job, checkpoints.restore(checkpoint, shapes))


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _shown(tree: dict[str, Any], name: str) -> str:
    return json.dumps(tree[name], ensure_ascii=False) if name in tree else "not set"


def _some(names: Collection[str]) -> str:
    return f"{len(names)}: " + ", ".join(list(names)[:4]) + (" …" if len(names) > 4 else "")


def check_names(names: Collection[str], config: RunConfig) -> None:
    """Refuses names that could allow nothing.

    Raises:
      InputError: one is neither ``data`` nor a key or section of the config.
    """
    known = [*_flat(config.model_dump()), "data"]
    for name in names:
        if not any(key == name or key.startswith(f"{name}.") for key in known):
            raise InputError(
                f"--allow-change {name}: expected data, or a key or section of the config, "
                f"such as solver.learning_rate"
            )
