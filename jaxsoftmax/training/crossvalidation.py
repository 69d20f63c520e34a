"""k folds: every row is tested once, by a model that has not seen it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .config import RunConfig
from .data import Dataset, dataset
from .model import Classifier
from .report.scores import Answers, Majority, Scores, judge, score
from .runs import loop


def cross_validate(config: RunConfig, folds: int, on_fold: Callable[[int, Scores], None]) -> Scores:
    """Trains and tests ``folds`` times; the split of the config sets the validation rows apart.

    Args:
      config: Of each run; its test share is not used.
      folds: How many.
      on_fold: Called with the number of each fold, from 1, and its scores.

    Returns:
      The scores of all rows together.
    """
    parts, majorities = [], []
    for fold in range(folds):
        data = dataset.prepare(config, fold=(fold, folds))
        model = fitted(config, data)
        part, majority = data.part("test"), Majority.of(data)
        answers = judge(part.labels, model.blocks(part.features))
        on_fold(fold + 1, score(answers, model.classes, majority, config.seed))
        parts.append(answers)
        majorities.append(majority.shares)
    whole = Majority(data.classes, np.mean(majorities, axis=0))
    return score(Answers.joined(parts), data.classes, whole, config.seed)


def fitted(config: RunConfig, data: Dataset) -> Classifier:
    """The model of a run that leaves no folder."""
    job = loop.prepare(config, data)
    state = loop.begin(job)
    while not loop.finished(job, state):
        state = loop.advance(job, state)
    return Classifier(state.columns, state.best.params, state.classes)
