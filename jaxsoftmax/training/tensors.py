"""Named arrays as the bytes of a safetensors file, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import safetensors
import safetensors.numpy

SPARE = 1 << 24  # bytes


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The contents of a file.

    Raises:
      MemoryError: they do not fit into memory once more.
    """
    with _memory(sum(array.nbytes for array in arrays.values())):
        content: bytes = safetensors.numpy.save(dict(arrays))
        return content


def unpack(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a file.

    Raises:
      ValueError: it is no safetensors file.
      MemoryError: they do not fit into memory once more.
    """
    try:
        with _memory(len(content)):
            return safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None


@contextmanager
def _memory(size: int) -> Iterator[None]:
    """Where memory ends, Rust ends the process, or panics, which is not even an `Exception`.

    So NumPy is asked first for what will be needed: the arrays twice, and something for all else.
    """
    np.empty(2 * size + SPARE, np.uint8)
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise MemoryError(f"safetensors: {error}") from None
        raise
