"""``jaxsoftmax bench``."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from .arguments import usage_errors


def bench(
    op: str,
    shape: str,
    dtype: str = "float32",
    *,
    mode: Annotated[list[str] | None, Parameter(negative=())] = None,
    seconds: float = 2.0,
) -> None:
    """Measure an operation against what JAX derives, jax.nn and optax, at a shape of yours.

    Args:
      op: A public name, such as softmax or softmax_cross_entropy_with_integer_labels.
      shape: Rows and classes, as in 4096x1000; rows x features x classes for the linear loss.
      dtype: A floating-point dtype.
      mode: forward, value_and_grad, jvp or hvp; may be repeated.
      seconds: Time to spend on each contender and mode.
    """
    from rich import print as show

    from jaxsoftmax.testing import compare_op

    modes: Any = mode or ("value_and_grad", "jvp")
    with usage_errors():
        comparison = compare_op(op, shape, dtype, modes, seconds=seconds)
    show(comparison)
