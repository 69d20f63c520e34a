"""Turns what the parsers of other libraries raise into one sentence; refuses files that change."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from jaxsoftmax.training.data.table import Source, Table
from jaxsoftmax.training.errors import InputError


@contextmanager
def sentences(path: Path) -> Iterator[None]:
    """Every failure to read ``path`` is an `InputError` that names it."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not {error.encoding} text (byte {error.start})") from None
    except MemoryError:
        raise InputError(f"{path}: asks for more memory than there is") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {_reason(error.strerror or error)}") from None
    except (
        ValueError,
        AttributeError,  # of rows that are no objects
        KeyError,
        EOFError,
        OverflowError,
        NotImplementedError,
        RecursionError,
        SyntaxError,  # of a header that is a Python literal
        tokenize.TokenError,  # of one that NumPy takes for that of an older Python
        TypeError,
        RuntimeError,  # an encrypted member of an archive
        struct.error,
        zlib.error,
        zipfile.BadZipFile,
        pa.ArrowException,
    ) as error:
        raise InputError(f"{path}: is damaged or of another kind: {_reason(error)}") from None


def steady(source: Source, paths: Sequence[Path]) -> Source:
    """The same source; a file that is another than when it was opened is refused."""
    opened = [_mark(path) for path in paths]

    def check() -> None:
        for path, mark in zip(paths, opened, strict=True):
            if _mark(path) != mark:
                raise InputError(f"{path}: has changed while it was being read; start again")

    def tables() -> Iterator[Table]:
        check()
        for table in source.tables():
            check()
            yield table

    return source._replace(tables=tables)


def _mark(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _reason(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
