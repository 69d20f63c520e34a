"""Builds the library of row kernels: `python jaxsoftmax/native/build.py`, or the hook of a wheel.

It is compiled against the headers of one jaxlib, and works with that and with all that have a newer
version of XLA's foreign function interface; so wheels are built against the oldest that is
supported. It has no Python in it. The name of the file says what it was made of.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("handlers.cc", "rows.cc", "rows.h", "simd.h", "statistics.h")
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-w")
_INSTRUCTIONS = {
    "avx2": ("-mavx2", "-mfma"),
    "avx512": (
        *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma"),
        "-mprefer-vector-width=512",
    ),
}


def supported() -> bool:
    """Whether there are kernels for this machine."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def compiler() -> str | None:
    """The C++ compiler, or None."""
    names = (os.environ.get("CXX"), "c++", "g++", "clang++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def interface(headers: Path) -> tuple[int, int]:
    """The version of XLA's foreign function interface that headers describe."""
    text = (headers / "xla/ffi/api/c_api.h").read_text(encoding="utf-8")
    major, minor = (
        re.search(rf"#define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR")
    )
    if major is None or minor is None:
        raise ValueError(f"{headers} does not say which version of the interface it is.")
    return int(major[1]), int(minor[1])


def name(version: tuple[int, int]) -> str:
    """The file of a library made of these sources for that version of the interface."""
    content = b"".join((HERE / source).read_bytes() for source in SOURCES)
    digest = hashlib.sha256(content).hexdigest()[:12]
    return f"rows-{digest}-ffi-{version[0]}.{version[1]}.so"


def build(headers: Path, folder: Path = HERE, flags: tuple[str, ...] = ()) -> Path:
    """Compiles the library against these headers into a folder; the path of its file.

    Raises:
      RuntimeError: there is no compiler, or it failed; the message has its last lines.
    """
    cxx = compiler()
    if cxx is None:
        raise RuntimeError("found no C++ compiler")
    target = folder / name(interface(headers))
    with tempfile.TemporaryDirectory() as scratch:
        objects = []
        for instructions, options in _INSTRUCTIONS.items():
            objects.append(f"{scratch}/{instructions}.o")
            _run(cxx, *_FLAGS, *options, *flags, "-c", str(HERE / "rows.cc"), "-o", objects[-1])
        objects.append(f"{scratch}/handlers.o")
        source = str(HERE / "handlers.cc")
        _run(cxx, *_FLAGS, *flags, f"-I{headers}", "-c", source, "-o", objects[-1])
        made = Path(scratch) / target.name
        _run(
            cxx, *flags, "-shared", "-static-libstdc++", "-static-libgcc", "-o", str(made), *objects
        )
        folder.mkdir(parents=True, exist_ok=True)
        beside = target.with_suffix(f".{os.getpid()}")
        shutil.copyfile(made, beside)
        beside.replace(target)  # another process finds the old file or the new one, and no half
    return target


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a compiler, by its full path
    if done.returncode:
        raise RuntimeError("\n".join([" ".join(command), *done.stderr.splitlines()[-5:]]))


def main() -> None:
    """Builds for the jaxlib that is installed here, unless that is done; one line of what came."""
    import jax  # noqa: PLC0415 - the build of a wheel has no JAX

    headers = Path(jax.ffi.include_dir())
    if not supported():
        print("row kernels: there are none for this machine; JAX's forms are used")
        return
    if (HERE / name(interface(headers))).exists():
        return
    print("row kernels: compiling (once; seconds)", flush=True)
    for old in HERE.glob("rows-*.so"):
        if old.name.split("-ffi-")[0] != name((0, 0)).split("-ffi-")[0]:
            old.unlink()
    try:
        build(headers)
    except (RuntimeError, OSError, ValueError) as error:
        print(f"row kernels: not built, JAX's forms are used: {error}")


if __name__ == "__main__":
    main()
