"""What the behaviours are checked on, and how results are compared."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from jaxsoftmax import linear_softmax_cross_entropy

X = np.array([[1.0, 0.0, 2.0, -1.0], [0.5, 3.0, -2.0, 0.0], [9.0, 1.0, 1.0, 1.0]], np.float32)
Y = np.array([2, 0, 1], np.int32)
F = np.array([[1.0, -2.0], [0.5, 0.25], [3.0, 1.0]], np.float32)
W = np.array([[0.5, -1.0, 2.0, 0.0], [1.0, 1.0, -0.5, 0.25]], np.float32)
NAN, INF = np.float32("nan"), np.float32("inf")


def refuses(error: type[Exception], words: str, call: Callable[..., Any], *args: Any) -> None:
    with pytest.raises(error, match=words):
        call(*args)


def same(got: Any, want: Any) -> None:
    """Equal to the last bit, NaN included."""
    jax.tree.map(np.testing.assert_array_equal, got, want)


def close(got: Any, want: Any, rtol: float = 3e-6) -> None:
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


def linear(**options: Any) -> Callable[..., Any]:
    """Loss and gradients of the linear loss."""
    loss = functools.partial(linear_softmax_cross_entropy, **options)
    return jax.value_and_grad(loss, argnums=(0, 1))
