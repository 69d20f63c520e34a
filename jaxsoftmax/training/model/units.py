"""A classifier in the units of its data, as people read coefficients and other programs take them.

feature = (x − mean) / scale        features @ W + b  =  x @ (W / scale) + (b − (mean / scale) @ W)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jaxsoftmax.training.data import Columns
from jaxsoftmax.training.data.columns import Category, Number, Vector

from .classifier import Classifier

Floats = npt.NDArray[np.float64]


class Affine(NamedTuple):
    """What is subtracted from each feature and what it is divided by, both ``(D,)``."""

    mean: Floats
    scale: Floats


class Coefficients(NamedTuple):
    """``kernel (D, C)`` for a feature as it is in the data, and ``bias (C,)``, in float64."""

    kernel: Floats
    bias: Floats


def affine(columns: Columns) -> Affine:
    """How the features of columns are standardised; 0 and 1 where they are one-hot."""
    means, scales = [np.empty(0)], [np.empty(0)]
    for column in columns.columns:
        mean, scale = np.zeros(len(column.features)), np.ones(len(column.features))
        match column:
            case Number():
                mean[0], scale[0] = column.mean, column.scale
            case Vector():
                mean, scale = np.array(column.mean), np.array(column.scale)
            case Category():
                pass
        means.append(mean)
        scales.append(scale)
    return Affine(np.concatenate(means), np.concatenate(scales))


def in_units(model: Classifier) -> Coefficients | None:
    """The coefficients of the data as they come; None where rows are scaled to unit length.

    Args:
      model: The classifier.

    Returns:
      What gives the same logits from features that are not standardised.
    """
    if model.columns.unit_length:
        return None
    mean, scale = affine(model.columns)
    kernel = np.asarray(model.params.kernel, np.float64) / scale[:, np.newaxis]
    bias = model.params.bias
    start = np.zeros(kernel.shape[1]) if bias is None else np.asarray(bias, np.float64)
    return Coefficients(kernel, start - mean @ kernel)
