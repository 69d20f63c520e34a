"""One record an operation: all that benchmark, accuracy table and tests need to know of it."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

Function = Callable[..., Any]
Input = Literal["logits", "labels", "targets", "features", "kernel"]
FLOATING = ("logits", "features", "kernel")  # what a benchmark differentiates in


class Exact(NamedTuple):
    """One row in numbers that need no care: logits x, label y, targets t, cotangents c, tangents v.

    They are NumPy arrays of numbers with many digits, whose operators and methods are enough for
    the textbook's formulas. p = softmax(x), s = logsumexp(x), ṗ = p∘(v - Σ p∘v), pv = Σ p∘v.
    """

    x: Any
    y: int
    t: Any
    c: Any
    v: Any
    p: Any
    s: Any
    pv: Any
    p_dot: Any


class Size(NamedTuple):
    """How large terms are: |c|, |v|, p and |t| of the row, in float64, and Σ of all others."""

    c: Any
    v: Any
    p: Any
    t: Any
    others: Callable[[Any], Any]

    def centred(self, v: Any) -> Any:
        """Of v - Σ p∘v."""
        return v * self.others(self.p) + self.others(self.p * v)


def _absent(library: Any) -> Function:
    raise NotImplementedError(f"{library.__name__} has no such function")


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """What is known of an operation on the last axis.

    Attributes:
      name: the public name.
      title: what tables call it.
      function: the public function, `(*inputs)`; a loss gives one number a row, or
        their mean.
      inputs: what it is called with, in order.
      textbook: the formula as textbooks have it, shifted by the maximum; `(*inputs, xp)`, where xp
        is `numpy` or `jax.numpy`.
      reverse: this package's rules in plain `jax.custom_vjp`, or None.
      peers: other libraries' functions, by library: the module, and how to get the function.
      torch: the same of PyTorch, from its module.
      exact: (value, vjp, jvp, hvp) of a row with many digits; None where `accuracy` has no row.
      terms: the largest term of (vjp, jvp, hvp), for sums that cancel, from the size of what goes
        in, the value and the gradient; and of the value, where small ones are known no better.
      loss: whether there is one number a row, in float32 for half types too.
      value: what the value may be off: units in the last place, or eps of its largest term.
      scratch: of a loss, the memory that value and gradient may take, in arrays of logits.
      gradient: whether each entry of the gradient is accurate, however small.
      of_heads: whether it streams as the linear loss does: its accuracy is measured, and no more.
    """

    name: str
    title: str
    function: Function
    inputs: tuple[Input, ...]
    textbook: Function
    reverse: Function | None = None
    peers: Mapping[str, tuple[str, Callable[[Any], Function]]] = dataclasses.field(
        default_factory=dict
    )
    torch: Callable[[Any], Function] | None = None
    exact: Callable[[Exact], tuple[Any, Any, Any, Any]] | None = None
    terms: Callable[[Size, Any, Any], tuple[Any, ...]] | None = None
    loss: bool = False
    value: float = 3.0
    scratch: float = 0.25
    gradient: bool = False
    of_heads: bool = False

    @property
    def wrt(self) -> tuple[int, ...]:
        """The inputs to differentiate in."""
        return tuple(i for i, name in enumerate(self.inputs) if name in FLOATING)

    def contenders(self) -> dict[str, Function]:
        """All that compute it, by name; a loss is the mean over rows."""
        found = {"automatic": self.textbook, "custom": self.function}
        if self.reverse is not None:
            found["custom_vjp"] = self.reverse
        found |= self.found_peers()
        return {name: self._reduced(f) for name, f in found.items()}

    def in_torch(self, torch: Any) -> Function:
        """PyTorch's function; a loss is the mean over rows."""
        return self._reduced((self.torch or _absent)(torch))

    def found_peers(self) -> dict[str, Function]:
        """The functions of those libraries that are installed, by library."""
        return {
            name: get(importlib.import_module(module))
            for name, (module, get) in self.peers.items()
            if importlib.util.find_spec(module.partition(".")[0])
        }

    def _reduced(self, function: Function) -> Function:
        return (lambda *inputs: function(*inputs).mean()) if self.loss else function
