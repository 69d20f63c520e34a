"""`SoftmaxClassifierCV`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from scipy import special
from sklearn.metrics import get_scorer
from sklearn.model_selection import check_cv

from jaxsoftmax.training.solvers import Params, Problem, Settings, State
from jaxsoftmax.training.solvers.newton_cg import NewtonCg
from jaxsoftmax.training.solvers.path import solve_folds

from .classifier import SoftmaxClassifier
from .estimator import SoftmaxEstimator, precision
from .rows import Matrix, Rows, Vector, prepare


class SoftmaxClassifierCV(SoftmaxEstimator):
    """`SoftmaxClassifier` with C chosen by cross-validation, all folds and values in one program.

    The folds are solved side by side on the same rows, and the values of C one after another, each
    from where the solutions of the two before it point to. The result is fitted to all rows.

    Args:
      Cs: values of C, or their number between 1e-4 and 1e4.
      cv: the number of folds, or what `sklearn.model_selection.check_cv` takes.
      scoring: a metric by name, or a scorer; None is the mean log-probability of the labels. The
        best mean over the folds wins, and of equals the smaller C.
      tol: as for `SoftmaxClassifier`, and so are the rest.
      fit_intercept: see there.
      class_weight: see there.
      max_iter: see there.
      dtype: see there.

    Attributes:
      C_: the value that won.
      Cs_: all values.
      scores_: ``(folds, n_Cs)``.
      coefs_paths_: ``(folds, n_Cs, n_classes, n_features)``, 1 for n_classes if there are two.
      intercepts_paths_: ``(folds, n_Cs, n_classes)``.

    Example:
      >>> from sklearn.datasets import load_iris
      >>> from jaxsoftmax.sklearn import SoftmaxClassifierCV
      >>> X, y = load_iris(return_X_y=True)
      >>> classifier = SoftmaxClassifierCV(Cs=5).fit(X, y)
      >>> classifier.scores_.shape
      (5, 5)
    """

    def __init__(
        self,
        *,
        Cs: int | Sequence[float] = 10,
        cv: Any = None,
        scoring: Any = None,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        class_weight: dict[Any, float] | Literal["balanced"] | None = None,
        max_iter: int = 100,
        dtype: Literal["float32", "float64"] | None = None,
    ) -> None:
        self.Cs = Cs
        self.cv = cv
        self.scoring = scoring
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.dtype = dtype

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Chooses C, and fits to all rows; see `SoftmaxClassifier.fit`."""
        self._check()
        matrix, labels, weights = self._data(X, y, sample_weight)
        self.Cs_ = _values(self.Cs)
        splits = list(check_cv(self.cv, labels, classifier=True).split(matrix, labels))
        rows = prepare(matrix, labels, weights, self.fit_intercept)
        paths = self._paths(rows, weights, splits)
        self.coefs_paths_, self.intercepts_paths_ = paths
        self.scores_ = self._scores(matrix, labels, weights, splits)
        mean = self.scores_.mean(axis=0)
        best = min(np.flatnonzero(mean == mean.max()), key=lambda i: self.Cs_[i])
        self.C_ = float(self.Cs_[best])
        final = SoftmaxClassifier(**self._shared(), C=self.C_, warm_start=True)
        final.classes_ = self.classes_
        final.coef_ = self.coefs_paths_[:, best].mean(axis=0)
        final.intercept_ = self.intercepts_paths_[:, best].mean(axis=0)
        final.fit(X, y, sample_weight)
        for name in ("coef_", "intercept_", "n_iter_", "objective_", "gradient_norm_"):
            setattr(self, name, getattr(final, name))
        return self

    def _shared(self) -> dict[str, Any]:
        names = ("tol", "fit_intercept", "class_weight", "max_iter", "dtype")
        return {name: getattr(self, name) for name in names}

    def _paths(
        self, rows: Rows, weights: Vector, splits: list[tuple[Any, Any]]
    ) -> tuple[Matrix, Vector]:
        """Coefficients (folds, Cs, classes, features) and intercepts (folds, Cs, classes)."""
        dtype, classes = rows.features.dtype, len(self.classes_)
        masked = np.zeros((len(splits), len(rows.weights)), dtype)
        for fold, (train, _) in enumerate(splits):
            masked[fold, train] = weights[train]
        order = np.argsort(self.Cs_)
        strength = 1 / (self.Cs_[order] * masked.sum(axis=1, dtype=np.float64)[:, np.newaxis])
        with precision(dtype):
            problem = rows.problem(strength, 0.0, classes)
            width, columns = rows.features.shape[1], self._columns
            start = rows.params(
                np.zeros((columns, width)), np.zeros(columns), bias=self.fit_intercept
            )
            given = problem, jnp.asarray(masked), start, self._settings(dtype)
            states = jax.device_get(_solve_paths(NewtonCg(), *given))
        pairs = [(fold, at) for fold in range(len(splits)) for at in range(len(order))]
        found = [rows.coefficients(_at(states.params, pair)) for pair in pairs]
        back = np.argsort(order)
        shape = len(splits), len(order)
        coefs, intercepts = (np.stack(part) for part in zip(*found, strict=True))
        return (
            coefs.reshape(*shape, *coefs.shape[1:])[:, back],
            intercepts.reshape(*shape, *intercepts.shape[1:])[:, back],
        )

    def _scores(
        self,
        matrix: Matrix,
        labels: npt.NDArray[np.int32],
        weights: Vector,
        splits: list[tuple[Any, Any]],
    ) -> Matrix:
        """The score of each fold's rows for each C, ``(folds, Cs)``."""
        named = self.scoring is None or isinstance(self.scoring, str)
        measure = OF_LOGITS.get(self.scoring) if named else None
        if measure is not None:
            found = [
                measure(self._fold_logits(fold, matrix[test]), labels[test])
                for fold, (_, test) in enumerate(splits)
            ]
            return np.stack(found)
        scorer = get_scorer(self.scoring) if isinstance(self.scoring, str) else self.scoring
        scores = np.empty((len(splits), len(self.Cs_)))
        judge = SoftmaxClassifier()
        judge.classes_, judge.n_features_in_ = self.classes_, matrix.shape[1]
        for fold, (_, test) in enumerate(splits):
            part, truth = matrix[test], self.classes_[labels[test]]
            for number in range(len(self.Cs_)):
                judge.coef_ = self.coefs_paths_[fold, number]
                judge.intercept_ = self.intercepts_paths_[fold, number]
                scores[fold, number] = scorer(judge, part, truth)
        return scores

    def _fold_logits(self, fold: int, part: Matrix) -> Matrix:
        """Of some rows for all values of C, ``(n_Cs, n, n_classes)``."""
        coefs, intercepts = self.coefs_paths_[fold], self.intercepts_paths_[fold]
        logits: Matrix = part @ np.swapaxes(coefs, 1, 2) + intercepts[:, np.newaxis, :]
        if logits.shape[2] > 1:
            return logits
        return np.concatenate([np.zeros_like(logits), logits], axis=2)


def _accuracy(logits: Matrix, labels: npt.NDArray[np.int32]) -> Vector:
    """Of each C, ``(n_Cs,)``."""
    found: Vector = np.mean(logits.argmax(axis=2) == labels, axis=1)
    return found


def _log_probability(logits: Matrix, labels: npt.NDArray[np.int32]) -> Vector:
    """The mean log-probability of the labels."""
    found: Vector = _of_labels(special.log_softmax(logits, axis=2), labels).mean(axis=1)
    return found


def _neg_log_loss(logits: Matrix, labels: npt.NDArray[np.int32]) -> Vector:
    """The same as scikit-learn has it, no probability being within eps of 0 or 1.

    Its own costs a millisecond a call, and refuses a fold in which a class is missing.
    """
    eps = np.finfo(logits.dtype).eps
    mine = np.clip(_of_labels(special.softmax(logits, axis=2), labels), eps, 1 - eps)
    found: Vector = np.log(mine).mean(axis=1)
    return found


def _of_labels(values: Matrix, labels: npt.NDArray[np.int32]) -> Matrix:
    """``(n_Cs, n)`` of ``(n_Cs, n, n_classes)``."""
    chosen: Matrix = values[:, np.arange(len(labels)), labels].astype(np.float64)
    return chosen


# Scores that need no call of an estimator for each fold and each C, by the name of `scoring`.
OF_LOGITS = {None: _log_probability, "neg_log_loss": _neg_log_loss, "accuracy": _accuracy}


def _at(params: Params, index: tuple[int, int]) -> Params:
    taken: Params = jax.tree.map(lambda leaf: leaf[index], params)
    return taken


@functools.partial(jax.jit, static_argnums=0)
def _solve_paths(
    solver: NewtonCg,
    problem: Problem,
    weights: jax.Array,
    params: Params,
    settings: Settings,
) -> State:
    l2 = jnp.swapaxes(jnp.asarray(problem.l2), 0, 1)
    rows = Problem(problem.features, problem.labels, problem.weights)
    states = solve_folds(solver, rows, weights, l2, params, settings)
    of_folds: State = jax.tree.map(
        lambda leaf: jnp.swapaxes(leaf, 0, 1) if jnp.ndim(leaf) > 1 else leaf, states
    )
    return of_folds


def _values(cs: Any) -> npt.NDArray[np.float64]:
    """The values of C, or that many evenly on a logarithmic scale."""
    if not isinstance(cs, bool) and isinstance(cs, Integral) and int(cs) > 0:
        return np.logspace(-4, 4, int(cs))
    given = np.asarray(cs)
    if given.ndim != 1 or given.dtype.kind not in "iuf" or not len(given) or not np.all(given > 0):
        raise ValueError(f"Cs must be how many values, or a list of positive ones, got {cs!r}")
    return given.astype(np.float64)
