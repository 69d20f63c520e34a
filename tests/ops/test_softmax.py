"""softmax and its dense Jacobian."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax import log_softmax, logsumexp, softmax, softmax_jacobian
from tests import oracle
from tests.rules import assert_dtypes, assert_rules, assert_third_order

RNG = np.random.default_rng(0)
MATRIX, CUBE = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3, 2))
MASK = np.array([[True, False, True], [False, False, False]])

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "last axis": (MATRIX, {}),
    "first axis": (MATRIX, {"axis": 0}),
    "two axes": (CUBE, {"axis": (0, 2)}),
    "where, and a row with nothing left": (MATRIX, {"where": MASK}),
}


@pytest.mark.parametrize("case", CASES)
def test_rules(case: str) -> None:
    x, options = CASES[case]
    assert_rules(softmax, x, oracle=oracle.softmax, **options)


def test_rules_against_the_dense_jacobian_of_the_card() -> None:
    x = 3 * MATRIX[0]
    once = {"dtypes": ("float32", "bfloat16", "float16"), "vmap": False, "order": 1}
    assert_rules(softmax, x, oracle=oracle.softmax, jacobian=softmax_jacobian, **once)
    assert_third_order(softmax, x, oracle=oracle.softmax)
    assert_dtypes(softmax, MATRIX, keeps=True)


@pytest.mark.parametrize("axis", [-1, 0])
def test_the_jacobian_and_its_own_derivatives(axis: int) -> None:
    assert_rules(softmax_jacobian, MATRIX, oracle=oracle.softmax_jacobian, axis=axis)
    assert_dtypes(softmax_jacobian, MATRIX, keeps=True)


@pytest.mark.parametrize("f", [softmax, log_softmax])
def test_no_rows_of_several_class_axes(f: Any) -> None:
    empty = jnp.zeros((0, 3, 4))
    assert f(empty, axis=(1, 2)).shape == empty.shape
    assert jax.grad(lambda x: f(x, axis=(1, 2)).sum())(empty).shape == empty.shape
    assert logsumexp(empty, axis=(1, 2)).shape == (0,)
