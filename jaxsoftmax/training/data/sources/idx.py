"""IDX, the format of MNIST: images in one file, labels in another."""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxsoftmax.training.config.keys import DataConfig
from jaxsoftmax.training.data.table import Source, Table
from jaxsoftmax.training.errors import InputError

from .arrays import array_tables, paired
from .guard import sentences

_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_LIMIT = 1 << 34  # bytes that a file may unpack to


def recognised(path: Path) -> bool:
    """Whether the first bytes are those of an IDX file."""
    with sentences(path), _opened(path) as file:
        head = file.read(4)
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in _TYPES and 1 <= head[3] <= 4


def read(path: Path, data: DataConfig) -> Source:
    """Images, flattened, with the labels of a second file."""

    def tables() -> Iterator[Table]:
        images = read_array(path)
        other = data.labels_path or _beside(path)
        if other is None:
            yield from array_tables(path, {"features": images})
            return
        labels = read_array(Path(other))
        yield from array_tables(path, paired(path, images, Path(other), labels))

    return Source(f"{path}", tables, "labels")


def read_array(path: Path) -> np.ndarray:
    """The array of one file, whose size must be what its header says."""
    with sentences(path), _opened(path) as file:
        zero, kind, dimensions = struct.unpack(">HBB", file.read(4))
        if zero or kind not in _TYPES:
            raise InputError(f"{path}: is not an IDX file")
        shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
        dtype = np.dtype(_TYPES[kind])
        size = math.prod(shape) * dtype.itemsize
        if size > _LIMIT:
            raise InputError(f"{path}: its header asks for {size:,} bytes")
        content = file.read(size + 1)
        if len(content) != size:
            raise InputError(f"{path}: has {len(content):,} bytes where its header says {size:,}")
    return np.frombuffer(content, dtype).reshape(shape)


def _beside(path: Path) -> str | None:
    """``t10k-labels-idx1-ubyte`` lies beside ``t10k-images-idx3-ubyte``."""
    name = path.name.replace("images", "labels").replace("idx3", "idx1")
    other = path.with_name(name)
    return str(other) if name != path.name and other.exists() else None


def _opened(path: Path):  # type: ignore[no-untyped-def]
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")
