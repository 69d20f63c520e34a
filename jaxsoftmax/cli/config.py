"""``jaxsoftmax config``."""

from __future__ import annotations

from pathlib import Path

from .arguments import Overrides


def show(config: Path, *, set_: Overrides = None) -> None:
    """Print a config with every default written out, as JSON.

    Args:
      config: A .toml config, or the config.json of an earlier run.
    """
    from jaxsoftmax.training.config import load_config

    print(load_config(config, set_ or ()).model_dump_json(indent=2))


def check(config: Path, *, set_: Overrides = None) -> None:
    """Say whether a config is valid, listing everything that is wrong with it.

    Args:
      config: A .toml config, or the config.json of an earlier run.
    """
    from jaxsoftmax.training.config import load_config

    load_config(config, set_ or ())
    print(f"{config}: valid")


def schema() -> None:
    """Print the JSON Schema of a config, for editors."""
    import json

    from jaxsoftmax.training.config import RunConfig

    print(json.dumps(RunConfig.model_json_schema(), indent=2))


def reference() -> None:
    """Print the reference page of all keys, as Markdown."""
    from jaxsoftmax.training.config.reference import page

    print(page(), end="")
