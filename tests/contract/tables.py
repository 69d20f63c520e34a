"""What the contract is made of: rows of input and right answer, and the table they are kept in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

import jaxsoftmax

NAN, INF = float("nan"), float("inf")

LOSS = {
    "CE": jaxsoftmax.softmax_cross_entropy_with_integer_labels,
    "soft CE": jaxsoftmax.softmax_cross_entropy,
}
PER_CLASS = {"softmax": jaxsoftmax.softmax, "log_softmax": jaxsoftmax.log_softmax}


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of logits in float32, and what an op makes of it.

    Derivatives follow from p: diag(p) - p pᵀ for softmax, I - 1 pᵀ for log_softmax, p for
    logsumexp, T p - t for losses, and T (diag(p) - p pᵀ) for the Hessians; where that is not what
    is right, they are given.
    """

    number: int
    op: str
    x: tuple[float, ...]
    value: float | tuple[float, ...]
    p: tuple[float, ...]
    target: Any = None  # a label, or a distribution
    where: tuple[bool, ...] | None = None
    options: tuple[tuple[str, Any], ...] = ()
    gradient: tuple[float, ...] | None = None
    hessian: tuple[tuple[float, ...], ...] | None = None  # () where nothing is promised
    note: str = ""

    @property
    def legal(self) -> bool:
        """Whether nothing in it is NaN, so that jax_debug_nans has nothing to say."""
        return not np.isnan([*self.x, *np.ravel(self.value), *self.p]).any()

    @property
    def group(self) -> tuple[Any, ...]:
        """Rows of one group are computed together."""
        return (self.op, self.where is not None, self.options)

    @property
    def jacobian(self) -> np.ndarray:
        """The derivative of the value, its axes first."""
        p = np.array(self.p)
        if self.op == "softmax":
            return _covariance(p)
        if self.op == "log_softmax":
            present = np.ones(len(p), bool) if self.where is None else np.array(self.where)
            jacobian = np.where(np.isnan(p).any(), NAN, np.eye(len(p)) - p)
            return np.where(present[:, None], jacobian, 0.0)
        if self.gradient is not None:
            return np.array(self.gradient)
        t = self.targets
        return p if t is None else t.sum() * p - t

    @property
    def second(self) -> np.ndarray:
        """The Hessian of a scalar."""
        p, t = np.array(self.p), self.targets
        if self.hessian is not None:
            return np.array(self.hessian)
        return (1.0 if t is None else t.sum()) * _covariance(p)

    @property
    def targets(self) -> np.ndarray | None:
        """The target as a distribution."""
        if self.op == "CE":
            return np.array([float(self.target == i) for i in range(len(self.x))])
        return np.array(self.target, float) if self.op == "soft CE" else None

    @property
    def call(self) -> str:
        """The call, as one would write it."""
        name = {"CE": "..._with_integer_labels", "soft CE": "softmax_cross_entropy"}
        words = [_list(self.x)]
        if self.target is not None:
            words.append(_list(self.target) if self.op == "soft CE" else str(self.target))
        if self.where is not None:
            words.append(f"where={_list(self.where)}")
        words += [f"{key}={value}" for key, value in self.options]
        return f"{name.get(self.op, self.op)}({', '.join(words)})"


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """Something that is so, and the function that sees to it."""

    number: int
    what: str
    check: Callable[[], None]


BEHAVIOURS: list[Behaviour] = []


def behaviour(number: int, what: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Enters a check into the table."""

    def enter(check: Callable[[], None]) -> Callable[[], None]:
        BEHAVIOURS.append(Behaviour(number, what, check))
        return check

    return enter


def _covariance(p: np.ndarray) -> np.ndarray:
    return np.diag(p) - np.outer(p, p) if np.isfinite(p).all() else np.full((p.size,) * 2, NAN)


def _list(values: Any) -> str:
    return "[" + ", ".join(number(v) for v in values) + "]"


def number(value: Any) -> str:
    """A short way to write a number."""
    if isinstance(value, (bool, np.bool_)):
        return "T" if value else "F"
    return "NaN" if value != value else f"{value:.4g}".replace("inf", "∞").replace("-", "−")
