"""``jaxsoftmax data``."""

from __future__ import annotations

from pathlib import Path

from .arguments import Overrides


def describe(file: Path, *, label: str | None = None, set_: Overrides = None) -> None:
    """Say what a run would learn from: rows, features, classes, parts and the baseline.

    Args:
      file: A config, or a file of data.
      label: The column of the class, for a file of data.
    """
    from jaxsoftmax.training import data
    from jaxsoftmax.training.config import load_config
    from jaxsoftmax.training.report.describe import describe as told

    if file.suffix == ".toml" or file.name == "config.json":
        config = load_config(file, set_ or ())
    else:
        from jaxsoftmax.training.config.file import from_tree

        tree = {"data": {"path": str(file), **({"label": as_name(label)} if label else {})}}
        config = from_tree(tree, file, set_ or ())
    print(told(data.prepare(config)))


def as_name(text: str) -> str | int:
    """A column's name, or its number."""
    return int(text) if text.lstrip("-").isdigit() else text
