"""Named arrays as the bytes of a safetensors file, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import safetensors
import safetensors.numpy


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The contents of a file.

    Raises:
      MemoryError: they do not fit into memory once more.
    """
    with _memory():
        content: bytes = safetensors.numpy.save(dict(arrays))
        return content


def unpack(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a file.

    Raises:
      ValueError: it is no safetensors file.
      MemoryError: they do not fit into memory once more.
    """
    try:
        with _memory():
            return safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None


@contextmanager
def _memory() -> Iterator[None]:
    """Where memory ends, Rust panics; that is not even an `Exception`."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise MemoryError(f"safetensors: {error}") from None
        raise
