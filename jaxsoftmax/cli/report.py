"""``jaxsoftmax report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def report(
    runs: Annotated[list[Path], Parameter(negative=())], *, out: Path = Path("report.html")
) -> None:
    """Compare finished runs on one page; that of a single run lies in its folder.

    Args:
      runs: The folders that train left.
      out: The page to write.
    """
    from jaxsoftmax.training.files import write_file
    from jaxsoftmax.training.report import comparison

    page = comparison.page([comparison.read(folder) for folder in runs])
    write_file(out, page.encode())
    print(f"wrote {out}")
