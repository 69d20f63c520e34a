"""Huge pages of memory: what the operating system says of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

_ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def huge_pages() -> str:
    """Who gets huge pages: always, madvise (who asks for them), never, or unknown."""
    try:
        found = re.search(r"\[(\w+)\]", _ENABLED.read_text(encoding="ascii"))
    except OSError:
        found = None
    return found[1] if found else "unknown"


def asked_for() -> bool:
    """Whether malloc of this process asks for them."""
    return "glibc.malloc.hugetlb=1" in os.environ.get("GLIBC_TUNABLES", "")
