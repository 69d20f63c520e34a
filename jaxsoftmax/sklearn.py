"""Softmax regression as a scikit-learn estimator; needs the ``train`` extra.

`SoftmaxClassifier` takes the place of `sklearn.linear_model.LogisticRegression`, and
`SoftmaxClassifierCV` that of `LogisticRegressionCV`: arguments that mean the same have the same
names and defaults, and the objective is the same number.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from scipy import sparse, special
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer
from sklearn.model_selection import check_cv
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from jaxsoftmax.training.solvers import Params, Problem, Settings, Solver, State, Status, solve
from jaxsoftmax.training.solvers.first_order import FirstOrder
from jaxsoftmax.training.solvers.newton_cg import NewtonCg
from jaxsoftmax.training.solvers.path import solve_path
from jaxsoftmax.training.solvers.proximal import Proximal

Matrix = npt.NDArray[np.floating]
Vector = npt.NDArray[np.floating]

FLOATS = (np.float64, np.float32)
SOLVERS: dict[str, Solver] = {"newton-cg": NewtonCg(), "fista": Proximal()}


class _Rows(NamedTuple):
    """Rows as a solver takes them: centred, large features scaled down, and padded.

    Numbers of rows that are nearly the same are padded to one, so that the folds of a
    cross-validation share a program. Scales are powers of 2, and divide exactly.
    """

    features: Matrix
    labels: npt.NDArray[np.int32]
    weights: Vector
    center: Vector
    scale: Vector

    def problem(self, strength: float, l1_ratio: float, classes: int) -> Problem:
        """With penalties of the given strength on the coefficients of the data as they came."""
        # Two columns ∓w/2 have half the squared length of the one column w of two classes.
        square = strength * (1 - l1_ratio) * (2 if classes == 2 else 1)
        dtype = self.features.dtype
        return Problem(
            jnp.asarray(self.features),
            jnp.asarray(self.labels),
            jnp.asarray(self.weights),
            jnp.asarray(square / self.scale**2, dtype),
            jnp.asarray(strength * l1_ratio / self.scale, dtype),
        )

    def params(self, coef: Matrix, intercept: Vector, *, bias: bool) -> Params:
        """Those of these rows, from a coefficient matrix ``(C, D)``, or (1, D) of two classes."""
        if len(coef) == 1:
            coef, intercept = _two(coef), _two(intercept)
        dtype = self.features.dtype
        kernel = jnp.asarray((coef * self.scale).T, dtype)
        return Params(kernel, jnp.asarray(intercept + coef @ self.center, dtype) if bias else None)

    def coefficients(self, params: Params) -> tuple[Matrix, Vector]:
        """Those of the data as they came, (C, D) and (C,), or (1, D) and (1,) of two classes."""
        coef = np.asarray(params.kernel, np.float64).T / self.scale
        bias = np.zeros(len(coef)) if params.bias is None else np.asarray(params.bias, np.float64)
        if params.bias is not None:
            bias = bias - coef @ self.center
        if len(coef) == 2:
            coef, bias = coef[1:] - coef[:1], bias[1:] - bias[:1]
        dtype = self.features.dtype
        return coef.astype(dtype), bias.astype(dtype)


def _two(one: Matrix) -> Matrix:
    """∓w/2: the two columns whose difference is w, and whose sum is 0."""
    return np.concatenate([-one / 2, one / 2])


class _Softmax(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What both estimators share: the data they take, and what a fitted one answers."""

    def decision_function(self, X: Any) -> Matrix:
        """``X @ coef_.T + intercept_``: ``(n, n_classes)``, or ``(n,)`` for two classes."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=FLOATS, reset=False)
        scores = safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_
        return scores.ravel() if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The most probable label of each row, ``(n,)``."""
        scores = self.decision_function(X)
        chosen = scores.argmax(axis=1) if scores.ndim == 2 else (scores > 0).astype(np.intp)
        return self.classes_[chosen]

    def predict_proba(self, X: Any) -> Matrix:
        """The probability of each class, ``(n, n_classes)``, in the order of ``classes_``."""
        return special.softmax(self._logits(X), axis=1)

    def predict_log_proba(self, X: Any) -> Matrix:
        """The logarithms of `predict_proba`, exact where these are 0 or 1 when rounded."""
        return special.log_softmax(self._logits(X), axis=1)

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
        _positive("max_iter", self.max_iter)
        if not self.tol >= 0:
            raise ValueError(f"tol must not be negative, got {self.tol!r}")
        if self.dtype not in (None, "float32", "float64"):
            raise ValueError(f"dtype must be 'float32', 'float64' or None, got {self.dtype!r}")

    def _settings(self, dtype: npt.DTypeLike) -> Settings:
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
        weights = _weights(sample_weight, len(y))
        if self.class_weight is not None:
            of_class = compute_class_weight(
                self.class_weight, classes=classes, y=y, sample_weight=weights
            )
            weights = weights * of_class[np.searchsorted(classes, y)]
        return (X.toarray() if sparse.issparse(X) else X), labels.astype(np.int32), weights

    @property
    def _columns(self) -> int:
        """Rows of ``coef_``."""
        return 1 if len(self.classes_) == 2 else len(self.classes_)


class SoftmaxClassifier(_Softmax):
    r"""Multinomial logistic regression, solved to the optimum by Newton's method.

    .. math:: \min_{W, b} \; C \sum_i s_i \operatorname{CE}(x_i W + b, y_i)
        + \tfrac{1 - \rho}{2} \|W\|_2^2 + \rho \|W\|_1

    Data of float32 are worked on in float32, all others in float64; `dtype` decides otherwise.
    Data of another number of rows need no new compilation as long as it is nearly the same.

    Args:
      C: the inverse of the strength of the penalties, positive.
      l1_ratio: ρ in [0, 1]; 0 is L2, 1 is L1, between them an elastic net.
      tol: the solver stops where no entry of the gradient of the mean objective is larger.
      fit_intercept: whether there is a b. It is not penalised.
      class_weight: weights of classes by label, or "balanced": inverse to their frequency.
      solver: "auto", "newton-cg" (L2 only) or "fista" (any penalty).
      max_iter: steps that the solver may take.
      warm_start: whether `fit` begins at the last solution.
      dtype: "float32", "float64", or None for that of the data.
      learning_rate: of `partial_fit`, which takes steps of Adam.
      batch_size: rows in a step of `partial_fit`.

    Attributes:
      classes_: the labels, sorted, ``(n_classes,)``.
      coef_: ``(n_classes, n_features)``, or ``(1, n_features)`` for two classes.
      intercept_: ``(n_classes,)`` or ``(1,)``; zeros without an intercept.
      n_iter_: steps taken, ``(1,)``.
      objective_: the mean objective at the end, C times smaller per row than the sum above.
      gradient_norm_: the largest entry of its gradient.
      n_features_in_: the number of features.
      feature_names_in_: their names, where the data have names.

    Example:
      >>> from sklearn.datasets import load_iris
      >>> from jaxsoftmax.sklearn import SoftmaxClassifier
      >>> X, y = load_iris(return_X_y=True)
      >>> classifier = SoftmaxClassifier().fit(X, y)
      >>> round(classifier.score(X, y), 3)
      0.973
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        l1_ratio: float = 0.0,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        class_weight: dict[Any, float] | Literal["balanced"] | None = None,
        solver: Literal["auto", "newton-cg", "fista"] = "auto",
        max_iter: int = 100,
        warm_start: bool = False,
        dtype: Literal["float32", "float64"] | None = None,
        learning_rate: float = 0.01,
        batch_size: int = 256,
    ) -> None:
        self.C = C
        self.l1_ratio = l1_ratio
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.dtype = dtype
        self.learning_rate = learning_rate
        self.batch_size = batch_size

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fits to rows.

        Args:
          X: ``(n, n_features)``, an array, a data frame or a sparse matrix (which is made dense).
          y: ``(n,)`` labels.
          sample_weight: ``(n,)``, not negative; None for 1.

        Returns:
          The estimator.

        Raises:
          ValueError: an argument is out of range, or the data make no sense.
        """
        solver = self._solver()
        X, labels, weights = self._data(X, y, sample_weight)
        rows = _prepare(X, labels, weights, self.fit_intercept)
        classes, dtype = len(self.classes_), rows.features.dtype
        strength = 1 / (self.C * float(weights.sum()))
        with _precision(dtype):
            start = rows.params(*self._start(X.shape[1]), bias=self.fit_intercept)
            problem = rows.problem(strength, self.l1_ratio, classes)
            state = jax.device_get(_solve(solver, problem, start, self._settings(dtype)))
        self.coef_, self.intercept_ = rows.coefficients(state.params)
        self.n_iter_ = np.array([int(state.iterations)], np.int32)
        self.objective_ = float(state.objective)
        self.gradient_norm_ = float(state.gradient_norm)
        self._forget()
        _warn(state)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Sequence[Any] | None = None, sample_weight: Any = None
    ) -> Self:
        """Takes steps of Adam on some rows, `batch_size` at a time, in the order they come.

        Args:
          X: ``(n, n_features)``.
          y: ``(n,)`` labels.
          classes: all labels that will ever come; needed by the first call only.
          sample_weight: ``(n,)``, not negative; None for 1.

        Returns:
          The estimator.

        Raises:
          ValueError: no classes where they are needed, others than before, or labels not in them.
        """
        self._solver()
        first = self._begin(classes)
        X, labels, weights = self._data(X, y, sample_weight, known=self.classes_, reset=first)
        if first:
            self.coef_ = np.zeros((self._columns, X.shape[1]), X.dtype)
            self.intercept_ = np.zeros(self._columns, X.dtype)
        self._weight_seen = getattr(self, "_weight_seen", 0.0) + float(weights.sum())
        strength = 1 / (self.C * max(self._weight_seen, 1e-300))
        nothing = np.zeros(X.shape[1])
        size = self.batch_size
        with _precision(X.dtype):
            state = getattr(self, "_steps", None)
            for part in range(0, len(labels), size):
                chosen = slice(part, part + size)
                rows = _padded(X[chosen], labels[chosen], weights[chosen], size)
                rows = rows._replace(center=nothing, scale=nothing + 1)
                problem = rows.problem(strength, self.l1_ratio, len(self.classes_))
                adam = _adam(self.learning_rate)
                if state is None:
                    settings = Settings(jnp.asarray(0, X.dtype), jnp.int32(2**31 - 1))
                    start = rows.params(self.coef_, self.intercept_, bias=self.fit_intercept)
                    state = _begin(adam, problem, start, settings)
                state = _step(adam, problem, state)
            state = jax.device_get(state)
        self._steps: State = state
        self.coef_, self.intercept_ = rows.coefficients(state.params)
        self.n_iter_ = np.array([int(state.iterations)], np.int32)
        if Status(int(state.status)) is Status.DIVERGED:
            _warn(state)
        return self

    def _solver(self) -> Solver:
        """The solver, after a look at all arguments."""
        self._check()
        for name in ("C", "learning_rate", "batch_size"):
            _positive(name, getattr(self, name))
        if not 0 <= self.l1_ratio <= 1:
            raise ValueError(f"l1_ratio must be in [0, 1], got {self.l1_ratio!r}")
        if self.solver not in ("auto", *SOLVERS):
            raise ValueError(f"solver must be 'auto', 'newton-cg' or 'fista', got {self.solver!r}")
        if self.solver == "newton-cg" and self.l1_ratio > 0:
            raise ValueError(
                f"solver 'newton-cg' is for L2 only, and l1_ratio is {self.l1_ratio!r}; "
                f"use solver='auto' or 'fista'"
            )
        auto = "fista" if self.l1_ratio > 0 else "newton-cg"
        return SOLVERS[auto if self.solver == "auto" else self.solver]

    def _start(self, width: int) -> tuple[Matrix, Vector]:
        """The last coefficients, if they are wanted and fit, or zeros."""
        shape = self._columns, width
        if self.warm_start and np.shape(getattr(self, "coef_", None)) == shape:
            return self.coef_, self.intercept_
        return np.zeros(shape), np.zeros(shape[0])

    def __getstate__(self) -> dict[str, Any]:
        """Only arrays of NumPy are pickled, so that a pickle needs no device."""
        state = super().__getstate__()
        if "_steps" in state:
            state = state | {"_steps": jax.device_get(state["_steps"])}
        return dict(state)

    def _begin(self, classes: Sequence[Any] | None) -> bool:
        """Sets ``classes_``; whether this is the first call of `partial_fit`."""
        known = getattr(self, "classes_", None)
        if classes is None and known is None:
            raise ValueError("classes must be given in the first call of partial_fit")
        if classes is None:
            return False
        given = np.unique(np.asarray(classes))
        if known is not None and not np.array_equal(given, known):
            raise ValueError(
                f"classes must be those of the first call, {known.tolist()}, got {given.tolist()}"
            )
        self.classes_ = given
        return known is None

    def _forget(self) -> None:
        """`partial_fit` after `fit` starts its averages anew."""
        for name in ("_steps", "_weight_seen"):
            self.__dict__.pop(name, None)


class SoftmaxClassifierCV(_Softmax):
    """`SoftmaxClassifier` with C chosen by cross-validation, all folds and values in one program.

    The folds are solved side by side on the same rows, and the values of C one after another, each
    from the solution of the one before. The result is fitted to all rows.

    Args:
      Cs: values of C, or their number between 1e-4 and 1e4.
      cv: the number of folds, or what `sklearn.model_selection.check_cv` takes.
      scoring: a metric by name, or a scorer; the best mean over the folds wins, and of equals
        the smaller C.
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
        scoring: Any = "neg_log_loss",
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
        given = np.logspace(-4, 4, self.Cs) if isinstance(self.Cs, int) else np.asarray(self.Cs)
        if given.ndim != 1 or not len(given) or not np.all(given > 0):
            raise ValueError(f"Cs must be a positive number of values, or such, got {self.Cs!r}")
        self.Cs_ = given.astype(np.float64)
        splits = list(check_cv(self.cv, labels, classifier=True).split(matrix, labels))
        rows = _prepare(matrix, labels, weights, self.fit_intercept)
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
        self, rows: _Rows, weights: Vector, splits: list[tuple[Any, Any]]
    ) -> tuple[Matrix, Vector]:
        """Coefficients (folds, Cs, classes, features) and intercepts (folds, Cs, classes)."""
        dtype, classes = rows.features.dtype, len(self.classes_)
        masked = np.zeros((len(splits), len(rows.weights)), dtype)
        for fold, (train, _) in enumerate(splits):
            masked[fold, train] = weights[train]
        order = np.argsort(self.Cs_)
        strength = 1 / (self.Cs_[order] * masked.sum(axis=1, dtype=np.float64)[:, np.newaxis])
        with _precision(dtype):
            problem = rows.problem(1.0, 0.0, classes)
            l2 = jnp.asarray(strength, dtype)[:, :, np.newaxis] * problem.l2
            width, columns = rows.features.shape[1], self._columns
            start = rows.params(
                np.zeros((columns, width)), np.zeros(columns), bias=self.fit_intercept
            )
            given = problem, jnp.asarray(masked), l2, start, self._settings(dtype)
            states = jax.device_get(_solve_paths(SOLVERS["newton-cg"], *given))
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


def _at(params: Params, index: tuple[int, int]) -> Params:
    taken: Params = jax.tree.map(lambda leaf: leaf[index], params)
    return taken


@functools.partial(jax.jit, static_argnums=0)
def _solve(solver: Solver, problem: Problem, params: Params, settings: Settings) -> State:
    return solve(solver, problem, params, settings)._replace(memory=None)


@functools.partial(jax.jit, static_argnums=0)
def _solve_paths(
    solver: Solver,
    problem: Problem,
    weights: jax.Array,
    l2: jax.Array,
    params: Params,
    settings: Settings,
) -> State:
    def path(weights: jax.Array, l2: jax.Array) -> State:
        fold = Problem(problem.features, problem.labels, weights)
        return solve_path(solver, fold, l2, params, settings)

    states: State = jax.vmap(path)(weights, l2)
    return states


@functools.cache
def _adam(learning_rate: float) -> FirstOrder:
    return FirstOrder(optax.with_extra_args_support(optax.adam(learning_rate)))


@functools.partial(jax.jit, static_argnums=0)
def _begin(solver: Solver, problem: Problem, params: Params, settings: Settings) -> State:
    return solver.init(problem, params, settings)


@functools.partial(jax.jit, static_argnums=0)
def _step(solver: Solver, problem: Problem, state: State) -> State:
    return solver.step(problem, state)


def _precision(dtype: npt.DTypeLike) -> AbstractContextManager[Any]:
    context: AbstractContextManager[Any] = jax.enable_x64(np.dtype(dtype) == np.float64)
    return context


def _prepare(X: Matrix, labels: npt.NDArray[np.int32], weights: Vector, centred: bool) -> _Rows:
    rows = _padded(X, labels, weights, _rounded_up(len(labels)), copy=True)
    count = len(labels)
    center = X.mean(axis=0, dtype=np.float64) if centred else np.zeros(X.shape[1])
    held = rows.features[:count]
    held -= center.astype(X.dtype)
    center = center.astype(X.dtype).astype(np.float64)  # what has been subtracted
    spread = np.sqrt(np.einsum("nd,nd->d", held, held, dtype=np.float64) / count)
    scale = np.exp2(np.ceil(np.log2(np.maximum(spread, 1))))
    if np.any(scale > 1):
        held /= scale.astype(X.dtype)
    return rows._replace(center=center, scale=scale)


def _padded(
    X: Matrix, labels: npt.NDArray[np.int32], weights: Vector, size: int, *, copy: bool = False
) -> _Rows:
    """Rows of weight 0 up to ``size``."""
    missing = size - len(labels)
    features = X
    if missing or copy:
        features = np.zeros((size, X.shape[1]), X.dtype)
        features[: len(labels)] = X
    nothing = np.zeros(X.shape[1])
    return _Rows(
        features,
        np.pad(labels, (0, missing)),
        np.pad(weights, (0, missing)).astype(X.dtype),
        nothing,
        nothing + 1,
    )


def _rounded_up(rows: int) -> int:
    """To the next number of a series that grows by a sixteenth at most, in steps of 64."""
    step = max(64, 2 ** (int(math.log2(rows)) - 4))
    return -(-rows // step) * step


def _weights(sample_weight: Any, rows: int) -> Vector:
    if sample_weight is None:
        return np.ones(rows)
    weights = np.asarray(sample_weight, np.float64)
    weights = np.full(rows, weights) if weights.ndim == 0 else column_or_1d(weights)
    if len(weights) != rows:
        raise ValueError(
            f"sample_weight must have one number for each row, {rows}, got {len(weights)}"
        )
    if not np.all(np.isfinite(weights)) or np.any(weights < 0):
        raise ValueError("sample_weight must be finite and not negative")
    if not np.any(weights > 0):
        raise ValueError("sample_weight must not be zero everywhere: no row has any weight")
    return weights


def _positive(name: str, value: Any) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be positive, got {value!r}")


def _warn(state: State) -> None:
    """A solver that has not converged says so, and what to do."""
    reason = Status(int(state.status))
    if reason is not Status.CONVERGED:
        warnings.warn(
            f"{reason.sentence()} (after {int(state.iterations)} steps, "
            f"the gradient's largest entry is {float(state.gradient_norm):.3g})",
            ConvergenceWarning,
            stacklevel=3,
        )
