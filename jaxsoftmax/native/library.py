"""The library of row kernels: found, checked, loaded, registered with XLA; or why not.

XLA's interface has a version, and a library that was compiled for a newer one than the running JAX
has would stop the CPU backend from starting. So the version is in the library's name, and compared
before anything is loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import jax

from . import build

NAMES = (
    "softmax",
    "softmax_product",
    "probabilities_product",
    "log_softmax",
    "log_softmax_transposed",
    "mean",
    "logsumexp",
    "scaled_probabilities",
    "label_loss",
    "label_gradient",
    "distribution_loss",
    "distribution_gradient",
)
PREFIX = "jaxsoftmax_"  # of the names in the library, which are those that XLA knows it by

Mode = Literal["auto", "off"]
_MODES = ("auto", "off")


def _from_environment() -> str:
    mode = os.environ.get("JAXSOFTMAX_KERNELS", "auto")
    if mode not in _MODES:
        raise ValueError(f"JAXSOFTMAX_KERNELS must be auto or off, got {mode!r}.")
    return mode


_mode = jax.make_user_context(_from_environment())


@contextlib.contextmanager
def kernels(mode: Mode) -> Iterator[None]:
    r"""Whether row kernels may be used inside of a ``with`` statement.

    Functions are compiled apart for each mode. What has been compiled outside, by
    `jax.jit(f).lower(...).compile()`, stays as it is.

    Args:
      mode: "auto", the default: where the library is there, on CPU, where a call fits; or "off":
        the forms in JAX everywhere. The environment variable ``JAXSOFTMAX_KERNELS`` sets the mode
        of a whole program.

    Returns:
      A context manager.

    Raises:
      ValueError: another mode.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsoftmax import kernels, softmax
      >>> with kernels("off"):
      ...     p = softmax(jnp.zeros(4))
      >>> p.tolist()
      [0.25, 0.25, 0.25, 0.25]
    """
    if mode not in _MODES:
        raise ValueError(f'kernels: mode must be "auto" or "off", got {mode!r}.')
    with _mode(mode):
        yield


def mode() -> str:
    """The mode here: auto or off."""
    return str(_mode.value)


def enabled() -> bool:
    """Whether kernels are there, and may be used here."""
    return mode() == "auto" and library().instructions is not None


class Library(NamedTuple):
    """What is known of the library."""

    path: Path | None
    instructions: str | None  # what it uses of this machine; None where it is not used
    why_not: str


@functools.cache
def library() -> Library:
    """The library, loaded and registered when first asked for."""
    if not build.supported():
        return Library(None, None, "there are kernels for Linux on x86-64 only")
    try:
        runtime = build.interface(Path(jax.ffi.include_dir()))
        path = _newest(runtime)
        if path is None:
            return Library(None, None, f"not built for XLA's interface {_dotted(runtime)}")
        return _loaded(path)
    except (OSError, AttributeError, ValueError) as error:
        return Library(None, None, f"could not be loaded: {error}")


def _newest(runtime: tuple[int, int]) -> Path | None:
    """The file for the newest version of the interface that this JAX has."""
    versions = ((runtime[0], minor) for minor in range(runtime[1], -1, -1))
    files = (build.HERE / build.name(version) for version in versions)
    return next((file for file in files if file.exists()), None)


def _loaded(path: Path) -> Library:
    handle = ctypes.CDLL(str(path))
    handle.jaxsoftmax_instructions.restype = ctypes.c_char_p
    instructions = handle.jaxsoftmax_instructions()
    if instructions is None:
        return Library(path, None, "this machine has neither AVX2 nor AVX-512")
    symbols = {PREFIX + name: getattr(handle, PREFIX + name) for name in NAMES}
    for name, symbol in symbols.items():
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(symbol), platform="cpu")
    return Library(path, instructions.decode(), "")


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
