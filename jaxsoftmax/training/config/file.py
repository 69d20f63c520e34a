"""From a TOML (or JSON) file and ``--set`` overrides to a `RunConfig`, or to readable errors."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jaxsoftmax.training.errors import InputError

from .errors import lines
from .keys import TAGS, Key, RunConfig, SweepConfig, known_keys

Tree = dict[str, Any]

PATHS = (
    ("data", "path"),
    ("data", "labels_path"),
    ("data", "cache"),
    ("split", "validation_path"),
    ("split", "test_path"),
    ("sweep", "path"),
)


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a config file, applies overrides and validates the result once.

    Args:
      path: a ``.toml`` file, or the ``config.json`` of an earlier run.
      overrides: ``section.key=value``; the value is a TOML literal, a bare word a string.

    Raises:
      InputError: with every problem found, one line each.
    """
    path = Path(path).expanduser()
    tree = _read(path)
    if "sweep" in tree:
        raise InputError(f"{path}: has a [sweep]; run it with: jaxsoftmax sweep {path}")
    _anchor(tree, path.parent)
    return from_tree(tree, path, overrides)


def load_sweep(
    path: Path | str, overrides: Sequence[str] = (), grid: Sequence[str] = ()
) -> tuple[RunConfig, SweepConfig]:
    """Reads a config file with a ``[sweep]``.

    Args:
      path: a ``.toml`` file.
      overrides: as for `load_config`.
      grid: ``key=value,value``, a line of ``[sweep]``.

    Raises:
      InputError: with every problem found, one line each.
    """
    path = Path(path).expanduser()
    tree = _read(path)
    section: Any = tree.get("sweep", {})
    for text in grid:
        key, equals, values = text.partition("=")
        if not equals or not isinstance(section, dict):
            raise InputError(f"--grid {text}: expected key=value,value, as in l2=1e-4,1e-3")
        given = [_parse(f"{key}={value}")[1] for value in values.split(",")]
        section[key.strip()] = given[0] if key.strip() == "by" else given
    tree["sweep"] = section
    _anchor(tree, path.parent)
    section = tree.pop("sweep")
    base = from_tree(tree, path, overrides)
    try:
        return base, SweepConfig.model_validate_json(json.dumps(section, default=str))
    except RecursionError:
        raise InputError(f"{path}: [sweep] is nested without end") from None
    except ValidationError as error:
        told = [
            f"{path}: [sweep] {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise InputError("\n".join(told)) from None


def from_tree(tree: Tree, path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Applies overrides to settings whose paths are whole, and validates them once."""
    settings = [_parse(text) for text in overrides]
    for key, value in settings:
        _apply(tree, key, value)
    _anchor(tree, Path.cwd())
    try:
        return RunConfig.model_validate_json(json.dumps(tree, default=str))
    except RecursionError:
        raise InputError(f"{path}: is nested without end") from None
    except ValidationError as error:
        overridden = {key for key, _ in settings}
        told = lines(error.errors(), path, overridden, tree)
        raise InputError("\n".join(told)) from None


def _read(path: Path) -> Tree:
    kind, parse = ("JSON", json.loads) if path.suffix == ".json" else ("TOML", tomllib.loads)
    try:
        tree = parse(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # grammar, UTF-8, or nesting without end
        raise InputError(f"{path}: is not valid {kind}: {error}") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path}: expected a table of settings, got {json.dumps(tree)[:80]}")
    return tree


def _anchor(tree: Tree, folder: Path) -> None:
    """A path in a file is relative to that file; one from --set, to the working directory."""
    for section, key in PATHS:
        table = tree.get(section)
        if isinstance(table, dict) and isinstance(table.get(key), str | list):
            given = table[key]
            whole = [
                _anchored(path, folder) for path in ([given] if isinstance(given, str) else given)
            ]
            table[key] = whole[0] if isinstance(given, str) else whole


def _anchored(path: Any, folder: Path) -> Any:
    return str(folder.absolute() / Path(path).expanduser()) if isinstance(path, str) else path


def _parse(text: str) -> tuple[Key, Any]:
    name, equals, literal = text.partition("=")
    key = tuple(part.strip() for part in name.split("."))
    if not equals or not all(key):
        raise InputError(f"--set {text}: expected section.key=value, as in solver.batch_size=64")
    try:
        parsed = tomllib.loads(f"value = {literal}")
    except (ValueError, RecursionError):  # no literal, or nesting without end
        return key, literal.strip()
    return key, parsed["value"] if len(parsed) == 1 else literal.strip()


def _apply(tree: Tree, key: Key, value: Any) -> None:
    """Sets one key; a new tag also drops the keys that only the old branch knew."""
    *section, last = key
    table: Any = tree
    for part in section:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {'.'.join(key)}: {part} is not a table")
    before = known_keys(tuple(section), tree)
    table[last] = value
    if TAGS.get(tuple(section)) == last:
        after = known_keys(tuple(section), tree)  # none when the new tag is unknown, an error later
        for stale in before - after if after else ():
            table.pop(stale, None)
