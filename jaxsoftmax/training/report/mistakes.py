"""The rows that a model is surest of, and wrong about."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jaxsoftmax.training.model import Classifier
from jaxsoftmax.training.model.units import affine
from jaxsoftmax.training.sparse import Matrix

from .scores import Answers

MOST = 20
REASONS = 4


class Reason(NamedTuple):
    """A feature as the row has it, and how much it says for the wrong class, in logits."""

    feature: str
    value: float
    logits: float


class Mistake(NamedTuple):
    """A test row and what was said of it; ``place`` counts the rows of the part."""

    place: int
    true: str
    predicted: str
    probability: float
    probability_of_true: float
    reasons: tuple[Reason, ...]


def most_confident(
    model: Classifier, features: Matrix, answers: Answers, most: int = MOST
) -> list[Mistake]:
    """Wrong predictions, the most probable first, with the features that spoke most for them.

    Args:
      model: What predicted.
      features: ``(N, D)``, encoded.
      answers: What it said of these rows.
      most: How many.
    """
    predictions, sure = answers.predictions, answers.confidence
    wrong = np.flatnonzero(~answers.right)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:most]
    kernel = np.asarray(model.params.kernel, np.float64)
    names, classes = model.columns.features, model.classes
    found = []
    for place in wrong.tolist():
        true, said = int(answers.labels[place]), int(predictions[place])
        row = features[place].astype(np.float64)
        spoke = row * (kernel[:, said] - kernel[:, true])
        values = in_data(model, row)
        first = np.argsort(-spoke, kind="stable")[:REASONS]
        reasons = tuple(
            Reason(names[d], float(values[d]), float(spoke[d])) for d in first if spoke[d] > 0
        )
        of_true = float(np.exp(-answers.losses[place]))
        found.append(
            Mistake(place, classes[true], classes[said], float(sure[place]), of_true, reasons)
        )
    return found


def in_data(model: Classifier, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Features ``(..., D)`` as the data have them; as encoded where rows have unit length."""
    if model.columns.unit_length:
        return features
    mean, scale = affine(model.columns)
    values = features * scale + mean
    lost = 4 * np.finfo(np.float32).eps * (np.abs(features * scale) + np.abs(mean))
    return np.where(np.abs(values) <= lost, 0.0, values)  # what is left of a 0 says nothing
