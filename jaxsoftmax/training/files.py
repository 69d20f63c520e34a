"""Finding files, and writing them whole or not at all."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .errors import InputError


def write_file(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all: a crash leaves the old one, never half a new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    unfinished = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.chmod(0o644)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink()
        raise


def expand(paths: Sequence[str]) -> list[Path]:
    """The files that paths and patterns stand for, in the order of their names."""
    found: list[Path] = []
    for text in paths:
        path = Path(text).expanduser()
        if path.exists():
            found.append(path)
            continue
        matches = sorted(glob.glob(str(path)))  # noqa: PTH207 - the pattern may be absolute
        if not matches:
            raise InputError(f"{path}: there is no such file")
        found += map(Path, matches)
    return found
