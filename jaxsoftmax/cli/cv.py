"""``jaxsoftmax cv``."""

from __future__ import annotations

from pathlib import Path

from .arguments import Overrides, usage


def cv(config: Path, *, folds: int = 5, set_: Overrides = None) -> None:
    """Train and test on k folds, so that every row is tested once.

    Args:
      config: A .toml config, or the config.json of an earlier run.
      folds: How many.
    """
    from jaxsoftmax.training.config import load_config

    settings = load_config(config, set_ or ())
    if folds < 2:
        usage(f"--folds {folds}: expected at least 2")

    from jaxsoftmax.training import crossvalidation
    from jaxsoftmax.training.report import progress

    found = crossvalidation.cross_validate(
        settings, folds, lambda fold, scores: print(progress.scores_lines(scores, f"fold {fold}"))
    )
    print(progress.scores_lines(found, "all"))
