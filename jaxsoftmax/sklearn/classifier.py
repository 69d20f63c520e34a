"""`SoftmaxClassifier`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxsoftmax.training.solvers import Params, Problem, Settings, Solver, State, Status, solve
from jaxsoftmax.training.solvers.first_order import FirstOrder
from jaxsoftmax.training.solvers.newton_cg import NewtonCg
from jaxsoftmax.training.solvers.proximal import Proximal

from .estimator import SoftmaxEstimator, check, precision, warn
from .rows import Matrix, Vector, padded, prepare

SOLVERS: dict[str, Solver] = {"newton-cg": NewtonCg(), "fista": Proximal()}


class SoftmaxClassifier(SoftmaxEstimator):
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
        rows = prepare(X, labels, weights, self.fit_intercept)
        classes, dtype = len(self.classes_), rows.features.dtype
        strength = 1 / (self.C * float(weights.sum()))
        with precision(dtype):
            start = rows.params(*self._start(X.shape[1]), bias=self.fit_intercept)
            problem = rows.problem(strength, self.l1_ratio, classes)
            state = jax.device_get(_solve(solver, problem, start, self._settings(dtype)))
        self.coef_, self.intercept_ = rows.coefficients(state.params)
        self.n_iter_ = np.array([int(state.iterations)], np.int32)
        self.objective_ = float(state.objective)
        self.gradient_norm_ = float(state.gradient_norm)
        self._forget()
        warn(state)
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
        with precision(X.dtype):
            state = getattr(self, "_steps", None)
            for part in range(0, len(labels), size):
                chosen = slice(part, part + size)
                rows = padded(X[chosen], labels[chosen], weights[chosen], size)
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
            warn(state)
        return self

    def _solver(self) -> Solver:
        """The solver, after a look at all arguments."""
        self._check()
        for name in ("C", "learning_rate"):
            check(name, getattr(self, name), lambda value: value > 0, "a positive number")
        rows, whole = self.batch_size, "a whole number above 0"
        check("batch_size", rows, lambda n: n >= 1 and n % 1 == 0, whole)
        check("l1_ratio", self.l1_ratio, lambda share: 0 <= share <= 1, "in [0, 1]")
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
        if self.warm_start and getattr(self, "coef_", np.empty(())).shape == shape:
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


@functools.partial(jax.jit, static_argnums=0)
def _solve(solver: Solver, problem: Problem, params: Params, settings: Settings) -> State:
    return solve(solver, problem, params, settings)._replace(memory=None)


@functools.cache
def _adam(learning_rate: float) -> FirstOrder:
    return FirstOrder(optax.with_extra_args_support(optax.adam(learning_rate)))


@functools.partial(jax.jit, static_argnums=0)
def _begin(solver: Solver, problem: Problem, params: Params, settings: Settings) -> State:
    return solver.init(problem, params, settings)


@functools.partial(jax.jit, static_argnums=0)
def _step(solver: Solver, problem: Problem, state: State) -> State:
    return solver.step(problem, state)
