"""SHA-256 of the files of a folder, in the file that ``sha256sum --check SHA256SUMS`` reads.

It is written last, so that a folder with it is complete; and a file that it does not vouch for is
not read. Neither safetensors nor JSON would notice a flipped bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from .errors import InputError
from .files import read_file, write_file

SUMS = "SHA256SUMS"


def seal(folder: Path, names: Iterable[str]) -> None:
    """Records the files as they are now."""
    lines = [f"{hashlib.sha256(_read(folder / name)).hexdigest()}  {name}\n" for name in names]
    write_file(folder / SUMS, "".join(lines).encode())


def listed(folder: Path) -> dict[str, str]:
    """The sum of each file that was there when the folder was sealed, by name.

    Raises:
      InputError: it was not, or cannot be read.
    """
    try:
        lines = _read(folder / SUMS).decode("ascii").splitlines()
    except FileNotFoundError:
        raise InputError(f"{folder}: {SUMS} is not there, so nothing vouches for a file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / SUMS}: is damaged: {error}") from None
    return {line[66:]: line[:64] for line in lines}


def sealed(folder: Path, name: str) -> bytes:
    """The contents of a file, as they were when the folder was sealed.

    Raises:
      InputError: the file, or the line that vouches for it, is missing or another; or a link.
    """
    expected = listed(folder).get(name)
    if expected is None:
        raise InputError(f"{folder / SUMS}: is damaged: has no line for {name}")
    try:
        content = _read(folder / name)
    except OSError as error:
        raise InputError(f"{folder / name}: cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != expected:
        raise InputError(
            f"{folder / name}: is damaged: its SHA-256 is not the one that {SUMS} records"
        )
    return content


def _read(path: Path) -> bytes:
    """A file's contents; a link is no file of this folder, and is not followed."""
    return read_file(path, links=False)
