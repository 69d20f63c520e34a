"""Files that are packed: told by their first bytes, whatever their name says."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pyarrow as pa

MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bz2",
    b"\x04\x22\x4d\x18": "lz4",
}
SUFFIXES = (".gz", ".zst", ".bz2", ".lz4")


def packing(path: Path) -> str | None:
    """What unpacks a file; None where nothing need be."""
    with path.open("rb") as file:
        head = file.read(4)
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


def unpacked(path: Path) -> pa.NativeFile:
    """A file's contents, unpacked on the way."""
    return pa.input_stream(str(path), compression=packing(path))


def head(path: Path, size: int) -> bytes:
    """The first bytes of the contents."""
    with unpacked(path) as file:
        return cast("bytes", file.read(size))
