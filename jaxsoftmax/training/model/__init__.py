"""What comes out of a run: a `Classifier`, which knows its columns and the names of its classes."""

from .classifier import Classifier, Predictions
from .files import load, save

__all__ = ["Classifier", "Predictions", "load", "save"]
