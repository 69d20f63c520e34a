"""Columns that are aligned by spaces or tabs: one space in the place of each run of them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from .packed import unpacked

BLOCK = 1 << 20  # bytes at a time

# Quoted text, which stays; spaces at either end of a line, which go; others, of which one stays.
_SPACES = re.compile(r'("[^"\n]*")|(?m:^[ \t]+|[ \t]+(?=\r?$))|([ \t]+)')
_IN_BYTES = re.compile(_SPACES.pattern.encode())


def single_spaced(line: str) -> str:
    """A line with one space between fields."""
    return _SPACES.sub(lambda found: found[1] or (found[2] and " ") or "", line)


@contextmanager
def single_spaced_file(path: Path) -> Iterator[io.BufferedIOBase]:
    """A file's contents, unpacked, with one space between fields."""
    with unpacked(path) as file, io.BufferedReader(_SingleSpaced(file)) as lines:
        yield lines


class _SingleSpaced(io.RawIOBase):
    def __init__(self, file: Any) -> None:
        self._file, self._read, self._ready = file, b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while not self._ready:
            block = self._file.read(BLOCK)
            text = self._read + block
            if not text:
                return 0
            end = text.rfind(b"\n") + 1 if block else len(text)
            self._read = text[end:]
            self._ready = memoryview(_IN_BYTES.sub(_of_run, text[:end]))
        part = self._ready[: len(into)]
        into[: len(part)] = part
        self._ready = self._ready[len(part) :]
        return len(part)


def _of_run(found: re.Match[bytes]) -> bytes:
    return cast("bytes", found[1] or (found[2] and b" ") or b"")
