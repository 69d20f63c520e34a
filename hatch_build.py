"""Puts the library of row kernels into a wheel, where a compiler is there to build it.

It is made for the oldest jaxlib that is supported, and serves all newer ones. Without a compiler,
or on a machine that there are no kernels for, the wheel is the package without it; a build never
fails for want of them. JAXSOFTMAX_BUILD_KERNELS=off leaves them out.
"""

from __future__ import annotations

import importlib.util
import os
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

OLDEST = "jaxlib==0.10.0; python_version < '3.15'"


def _build() -> Any:
    """`jaxsoftmax/native/build.py`, which imports nothing of the package."""
    path = Path(__file__).parent / "jaxsoftmax" / "native" / "build.py"
    spec = importlib.util.spec_from_file_location("native_build", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class RowKernels(BuildHookInterface):
    """The hook."""

    def dependencies(self) -> list[str]:
        """The headers, if they are of any use."""
        return [OLDEST] if self._wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles, and adds the library to what the wheel holds."""
        jaxlib = importlib.util.find_spec("jaxlib")
        if version == "editable" or jaxlib is None or not self._wanted():
            return
        build, self._folder = _build(), tempfile.TemporaryDirectory()
        try:
            headers = Path(jaxlib.submodule_search_locations[0]) / "include"
            library = build.build(headers, Path(self._folder.name))
        except (RuntimeError, OSError, ValueError) as error:
            self.app.display_warning(f"row kernels: not built: {error}")
            return
        build_data["force_include"][str(library)] = f"jaxsoftmax/native/{library.name}"
        build_data["pure_python"] = False
        tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{tag}"

    def _wanted(self) -> bool:
        build = _build()
        off = os.environ.get("JAXSOFTMAX_BUILD_KERNELS") == "off"
        return self.target_name == "wheel" and not off and build.supported() and build.compiler()
