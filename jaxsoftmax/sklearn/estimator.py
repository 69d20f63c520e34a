"""What both estimators share: the data they take, and what a fitted one answers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from scipy import sparse, special
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxsoftmax.training.solvers import Settings, State, Status

from .rows import Matrix, Vector, row_weights

FLOATS = (np.float64, np.float32)


class SoftmaxEstimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What both estimators share: the data they take, and what a fitted one answers."""

    def decision_function(self, X: Any) -> Matrix:
        """``X @ coef_.T + intercept_``: ``(n, n_classes)``, or ``(n,)`` for two classes."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=FLOATS, reset=False)
        scores = safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_
        decisions: Matrix = scores.ravel() if scores.shape[1] == 1 else scores
        return decisions

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The most probable label of each row, ``(n,)``."""
        scores = self.decision_function(X)
        chosen = scores.argmax(axis=1) if scores.ndim == 2 else (scores > 0).astype(np.intp)
        labels: npt.NDArray[Any] = self.classes_[chosen]
        return labels

    def predict_proba(self, X: Any) -> Matrix:
        """The probability of each class, ``(n, n_classes)``, in the order of ``classes_``."""
        probabilities: Matrix = special.softmax(self._logits(X), axis=1)
        return probabilities

    def predict_log_proba(self, X: Any) -> Matrix:
        """The logarithms of `predict_proba`, exact where these are 0 or 1 when rounded."""
        logarithms: Matrix = special.log_softmax(self._logits(X), axis=1)
        return logarithms

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _logits(self, X: Any) -> Matrix:
        scores = self.decision_function(X)
        if scores.ndim == 2:
            return scores
        return np.stack([np.zeros_like(scores), scores], axis=1)

    def _check(self) -> None:
        """A look at the arguments that both have."""
        check("max_iter", self.max_iter, lambda n: n >= 1 and n % 1 == 0, "a whole number above 0")
        check("tol", self.tol, lambda tol: tol >= 0, "a number, 0 or above")
        if self.dtype not in (None, "float32", "float64"):
            raise ValueError(f"dtype must be 'float32', 'float64' or None, got {self.dtype!r}")

    def _settings(self, dtype: np.dtype[Any]) -> Settings:
        return Settings(jnp.asarray(self.tol, dtype), jnp.int32(self.max_iter))

    def _data(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        known: npt.NDArray[Any] | None = None,
        *,
        reset: bool = True,
    ) -> tuple[Matrix, npt.NDArray[np.int32], Vector]:
        """Dense features, labels as numbers and weights; sets ``classes_`` unless it is known."""
        dtype = FLOATS if self.dtype is None else np.dtype(self.dtype)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=dtype, reset=reset)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if known is None:
            if len(classes) < 2:
                raise ValueError(f"y must hold at least 2 classes, got 1 class: {classes[0]!r}")
            self.classes_ = classes
        else:
            strange = classes[~np.isin(classes, known)]
            if len(strange):
                raise ValueError(f"y holds labels that are not in classes: {strange.tolist()}")
            labels = np.searchsorted(known, classes)[labels]
        weights = row_weights(sample_weight, len(y))
        if self.class_weight is not None:
            of_class = compute_class_weight(
                self.class_weight, classes=classes, y=y, sample_weight=weights
            )
            weights = weights * of_class[np.searchsorted(classes, y)]
            if not (np.all(weights >= 0) and 0 < np.sum(weights) < np.inf):
                raise ValueError(
                    f"class_weight must be finite and not negative, and not 0 for all classes of y,"
                    f" got {self.class_weight!r}"
                )
        return (X.toarray() if sparse.issparse(X) else X), labels.astype(np.int32), weights

    @property
    def _columns(self) -> int:
        """Rows of ``coef_``."""
        return 1 if len(self.classes_) == 2 else len(self.classes_)


def precision(dtype: npt.DTypeLike) -> AbstractContextManager[Any]:
    """The context in which arrays of this dtype stay what they are."""
    context: AbstractContextManager[Any] = jax.enable_x64(np.dtype(dtype) == np.float64)
    return context


def check(name: str, value: Any, holds: Callable[[Any], Any], wanted: str) -> None:
    """Refuses an argument that is no real number, or none for which `holds`, as NaN."""
    if isinstance(value, bool) or not isinstance(value, Real) or not holds(value):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


def warn(state: State) -> None:
    """A solver that has not converged says so, and what to do."""
    reason = Status(int(state.status))
    if reason is not Status.CONVERGED:
        warnings.warn(
            f"{reason.sentence()} (after {int(state.iterations)} steps, "
            f"the gradient's largest entry is {float(state.gradient_norm):.3g})",
            ConvergenceWarning,
            stacklevel=3,
        )
