"""Turns what the parsers of other libraries raise into one sentence."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

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
        TypeError,
        RuntimeError,  # an encrypted member of an archive
        struct.error,
        zlib.error,
        zipfile.BadZipFile,
        pa.ArrowException,
    ) as error:
        raise InputError(f"{path}: is damaged or of another kind: {_reason(error)}") from None


def _reason(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
