"""``jaxsoftmax check``."""

from __future__ import annotations

import sys

from .arguments import usage_errors


def check(name: str, *shapes: str, seed: int = 0) -> None:
    """Check the hand-written derivative rules of a function, in every mode, on random arguments.

    Args:
      name: MODULE:FUNCTION or FILE.py:FUNCTION, as in jax.nn:softmax.
      shapes: One for each argument: 4x10 or scalar for normal numbers, 4x10:prob for
        probabilities, 4:int10 for integers from 0 to 9.
      seed: Of the arguments and the directions.
    """
    from rich import print as show

    from jaxsoftmax.testing import check_from_name

    with usage_errors():
        report = check_from_name(name, *shapes, seed=seed)
    show(report)
    if not report.ok:
        sys.exit(1)
