"""Finding files, and writing them whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import InputError


def read_file(path: Path, *, links: bool = True) -> bytes:
    """A file's contents; of nothing that is no file, as one would wait for a pipe for ever.

    Args:
      path: of the file.
      links: whether it may be a link to one.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is a pipe or a device", str(path))
        return file.read()


def write_file(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all: a crash leaves the old one, never half a new one."""
    with naming(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        unfinished = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.chmod(0o644)
            unfinished.replace(path)
            sync_folder(path.parent)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def append(path: Path, text: str) -> None:
    """Adds to a file; never to one that a link leads to."""
    with naming(path):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o644), "w", encoding="utf-8") as file:
            file.write(text)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder as lasting as the contents of its files."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors say which file: those of writing, such as a full disk, do not know."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


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
