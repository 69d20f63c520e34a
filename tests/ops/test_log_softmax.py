"""log_softmax."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax import log_softmax
from tests import oracle
from tests.rules import assert_dtypes, assert_rules, assert_third_order

RNG = np.random.default_rng(1)
MATRIX, CUBE = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3, 2))
MASK = np.array([[True, False, True], [False, False, False]])

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "last axis": (MATRIX, {}),
    "first axis": (MATRIX, {"axis": 0}),
    "all axes": (CUBE, {"axis": None}),
    "where, and a row with nothing left": (MATRIX, {"where": MASK}),
}


@pytest.mark.parametrize("case", CASES)
def test_rules(case: str) -> None:
    x, options = CASES[case]
    assert_rules(log_softmax, x, oracle=oracle.log_softmax, **options)


def dense(x: Any) -> Any:
    """J = I - 1 pᵀ, as on the card."""
    p = jax.nn.softmax(x)
    return jnp.eye(x.size) - jnp.ones((x.size, 1)) * p[None, :]


def test_rules_against_the_dense_jacobian_of_the_card() -> None:
    x = 3 * MATRIX[0]
    once = {"dtypes": ("float32", "bfloat16", "float16"), "vmap": False, "order": 1}
    assert_rules(log_softmax, x, oracle=oracle.log_softmax, jacobian=dense, **once)
    assert_third_order(log_softmax, x, oracle=oracle.log_softmax)
    assert_dtypes(log_softmax, MATRIX, keeps=True)
