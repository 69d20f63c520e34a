"""How sure the coefficients of a model are: standard errors from the Hessian at the optimum.

    cov θ = H⁺ I H⁺ / N        I = Σ_i u_i (diag p_i − p_i p_iᵀ) ⊗ x_i x_iᵀ / N        H = I + λ

θ is the kernel with the bias as its last row, N = Σ u, and ⁺ the pseudo-inverse: only differences
between classes are seen in data, and coefficients sum to 0 over the classes. With λ = 0 this is the
inverse of the observed information; with a penalty it is White's form, about the penalised optimum.

Source: White, Maximum likelihood estimation of misspecified models, Econometrica 50, 1982.
"""

from __future__ import annotations

import csv
import io

import numpy as np
import numpy.typing as npt

from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.model import Classifier
from jaxsoftmax.training.model.units import Floats, affine, in_units
from jaxsoftmax.training.sparse import Matrix

MOST = 2000  # coefficients, whose Hessian is inverted whole
ROWS = 4096  # at a time


def standard_errors(
    model: Classifier, features: Matrix, weights: npt.NDArray[np.floating], l2: float
) -> Floats:
    """Of the coefficients in the units of the data, ``(D + 1, C)``; the last row is the bias.

    Args:
      model: at its optimum.
      features: ``(N, D)`` encoded rows that it was trained on.
      weights: ``(N,)`` of the rows.
      l2: its penalty.

    Raises:
      InputError: there are too many coefficients, or rows are scaled to unit length.
    """
    width, classes = np.shape(model.params.kernel)
    if (width + 1) * classes > MOST:
        raise InputError(
            f"standard errors need the inverse of a matrix of {(width + 1) * classes:,} "
            f"coefficients squared; up to {MOST:,} are inverted"
        )
    if model.columns.unit_length:
        raise InputError("standard errors are in units of the data, but rows are of unit length")
    information = _information(model, features, weights)
    penalty = np.full(width + 1, l2)
    penalty[width] = 0
    inverse = np.linalg.pinv(
        information + np.diag(np.tile(penalty, classes)), rcond=1e-10, hermitian=True
    )
    covariance = inverse @ information @ inverse / np.sum(weights, dtype=np.float64)
    mean, scale = affine(model.columns)
    units = np.eye(width + 1)
    units[:width, :width] /= scale
    units[width, :width] = -mean / scale
    blocks = covariance.reshape(classes, width + 1, classes, width + 1)
    found = [np.einsum("ij,jk,ik->i", units, blocks[c, :, c], units) for c in range(classes)]
    errors: Floats = np.sqrt(np.maximum(np.stack(found, axis=1), 0))
    return errors


def _information(model: Classifier, features: Matrix, weights: npt.NDArray[np.floating]) -> Floats:
    """``(C (D + 1), C (D + 1))``, class by class."""
    width, classes = np.shape(model.params.kernel)
    total = np.zeros((classes, width + 1, classes, width + 1))
    bias = np.zeros(classes) if model.params.bias is None else np.asarray(model.params.bias)
    theta = np.concatenate([np.asarray(model.params.kernel), bias[np.newaxis]]).astype(np.float64)
    for first in range(0, len(features), ROWS):
        rows = slice(first, first + ROWS)
        x = np.pad(features[rows].astype(np.float64), ((0, 0), (0, 1)), constant_values=1)
        if model.params.bias is None:
            x[:, -1] = 0
        p = _softmax(x @ theta)
        u = weights[rows].astype(np.float64)
        for a in range(classes):
            for b in range(a, classes):
                curvature = u * p[:, a] * ((a == b) - p[:, b])
                total[a, :, b] += (x * curvature[:, np.newaxis]).T @ x
                total[b, :, a] = total[a, :, b].T
    size = classes * (width + 1)
    return total.reshape(size, size) / np.sum(weights, dtype=np.float64)


def _softmax(logits: Floats) -> Floats:
    """In float64, so that what is singular is so to 16 digits."""
    p: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def table(model: Classifier, errors: Floats) -> str:
    """As CSV: class, feature, coefficient, standard error and their ratio z."""
    units = in_units(model)
    assert units is not None  # noqa: S101 - rows of unit length have been refused
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["class", "feature", "coefficient", "standard_error", "z"])
    values = np.concatenate([units.kernel, units.bias[np.newaxis]])
    for c, name in enumerate(model.classes):
        for d, feature in enumerate((*model.columns.features, "(bias)")):
            value, error = float(values[d, c]), float(errors[d, c])
            writer.writerow([name, feature, value, error, value / error if error > 0 else ""])
    return out.getvalue()
