"""What a solver minimises: the mean cross-entropy of a linear classifier with an L2 penalty.

    f(W, b) = Σ_i u_i CE(x_i W + b, y_i) / Σ_i u_i  +  ½ Σ_d λ_d ‖W_d‖²

The bias is not penalised. Everything here is a pytree of arrays and numbers, so that a solver can
be compiled, vmapped over any of them, checkpointed, and placed on several devices.
"""

from __future__ import annotations

from typing import NamedTuple

from jax import Array
from jax.typing import ArrayLike


class Params(NamedTuple):
    """``kernel (D, C)`` and ``bias (C,)``, or None for a model without one."""

    kernel: Array
    bias: Array | None


class Problem(NamedTuple):
    """Rows and penalty; the number of classes is the width of the parameters.

    Attributes:
      features: ``(N, D)``, floating point.
      labels: ``(N,)``, integers in [0, C).
      weights: ``(N,)``, not negative. A row of weight 0 is as if it were absent, so that data can
        be padded to a shape that has been compiled. Weights of classes are multiplied in.
      l2: λ, a number, or ``(D,)`` with one for each feature.
    """

    features: Array
    labels: Array
    weights: Array
    l2: ArrayLike = 0.0
