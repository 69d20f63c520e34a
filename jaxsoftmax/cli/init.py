"""``jaxsoftmax init``."""

from __future__ import annotations

import sys
from pathlib import Path

from .arguments import usage
from .data import as_name


def init(file: Path, *, label: str | None = None, out: Path | None = None) -> None:
    """Write a commented config for a file of data.

    Args:
      file: The data.
      label: The column of the class.
      out: The config to write; standard output when left out.
    """
    from jaxsoftmax.training.config.example import example

    name = None if label is None else as_name(label)
    if out is None:
        sys.stdout.write(example(file, name, Path.cwd()))
        return
    if out.exists():
        usage(f"{out}: exists already")
    out.write_text(example(file, name, out.parent), encoding="utf-8")
    print(f"wrote {out}; now: jaxsoftmax train {out}")
