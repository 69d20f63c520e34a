"""``jaxsoftmax compare``."""

from __future__ import annotations

from pathlib import Path


def compare(first: Path, second: Path, *, data: Path | None = None) -> None:
    """Say whether one of two runs is better, on the rows that both were tested on.

    Args:
      first: The folder that train left.
      second: Another one, of the same rows; its features may be others.
      data: A labelled file with the columns of both, to compare on instead.
    """
    from jaxsoftmax.training import evaluation
    from jaxsoftmax.training.report import paired

    found = evaluation.compare(first, second, data)
    print(paired.lines(found, (str(first), str(second))))
