"""Where the features lie: in memory, or in a file that is mapped into it.

In a file above a size, and of several processes, so that each holds its own rows alone.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import mmap
import os
import tempfile
from pathlib import Path

import jax
import numpy as np

from jaxsoftmax.training.config.keys import DataConfig
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.sparse import Matrix

from .columns import Features

GB = 10**9


def array(shape: tuple[int, int], data: DataConfig) -> Features:
    """An array to be filled; where `too_large`, a memory map in the cache folder."""
    size = bytes_of(shape)
    if not too_large(shape, data):
        return np.empty(shape, np.float32)
    parent = folder(data)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        free = os.statvfs(parent).f_bavail * os.statvfs(parent).f_frsize
        if free < size:
            raise InputError(
                f"{parent}: the features need {size / GB:.1f} GB and {free / GB:.1f} are free; "
                f"write [data] cache = … for another folder"
            )
        handle, name = tempfile.mkstemp(dir=parent, prefix="features-", suffix=".f32")
        os.close(handle)
        # The file is this run's alone and goes with it.
        atexit.register(_remove, name)
        return np.memmap(name, np.float32, "w+", shape=shape)
    except OSError as error:
        raise InputError(f"{parent}: cannot hold features: {error.strerror}") from None


def too_large(shape: tuple[int, int], data: DataConfig) -> bool:
    """Whether an array takes more than ``memory``, or belongs to several processes."""
    return bytes_of(shape) > data.memory * GB or jax.distributed.is_initialized()


def release(features: Matrix) -> None:
    """Takes a map out of memory, but for what is read again from its file."""
    mapped = getattr(features, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):  # of a shared map nothing is lost
        mapped.madvise(mmap.MADV_DONTNEED)


def bytes_of(shape: tuple[int, int]) -> int:
    """What an array takes."""
    return math.prod(shape) * np.dtype(np.float32).itemsize


def folder(data: DataConfig) -> Path:
    """What the config says, else the user's cache folder."""
    if data.cache is not None:
        return Path(data.cache)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxsoftmax"


def _remove(name: str) -> None:
    with contextlib.suppress(OSError):
        Path(name).unlink()
