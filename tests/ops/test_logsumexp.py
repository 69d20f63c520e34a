"""logsumexp, weighted and not."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from jaxsoftmax import logsumexp
from tests import oracle
from tests.rules import assert_dtypes, assert_rules, assert_third_order

RNG = np.random.default_rng(2)
MATRIX, CUBE = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3, 2))
POSITIVE = RNG.uniform(0.5, 2.0, size=(2, 3))
SIGNED = np.array([[-2.0, 0.5, -1.0], [0.5, 3.0, -0.25]])
MASK = np.array([[True, False, True], [True, True, False]])

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "all axes": (MATRIX, {}),
    "first axis": (MATRIX, {"axis": 0}),
    "two axes, kept": (CUBE, {"axis": (0, 2), "keepdims": True}),
    "where": (MATRIX, {"axis": 1, "where": MASK}),
}


@pytest.mark.parametrize("case", CASES)
def test_rules(case: str) -> None:
    a, options = CASES[case]
    assert_rules(logsumexp, a, oracle=oracle.logsumexp, **options)


def _weighted(a: Any, b: Any, **options: Any) -> Any:
    return logsumexp(a, 1, b, **options)


def _weighted_oracle(a: Any, b: Any, **options: Any) -> Any:
    return oracle.logsumexp(a, 1, b, **options)


@pytest.mark.parametrize("options", [{}, {"where": MASK}], ids=["all", "where"])
def test_rules_with_weights(options: dict[str, Any]) -> None:
    assert_rules(_weighted, MATRIX, POSITIVE, oracle=_weighted_oracle, **options)


def test_rules_of_the_logarithm_of_a_signed_sum() -> None:
    def size(a: Any, b: Any) -> Any:
        return logsumexp(a, 1, b, return_sign=True)[0]

    assert_rules(size, MATRIX, SIGNED, oracle=_weighted_oracle)
    sign = logsumexp(MATRIX, 1, SIGNED, return_sign=True)[1]
    np.testing.assert_array_equal(sign, np.sign(np.sum(SIGNED * np.exp(MATRIX), axis=1)))


def test_rules_against_the_dense_jacobian_of_the_card() -> None:
    once = {"dtypes": ("float32", "bfloat16", "float16"), "vmap": False, "order": 1}
    gradient = partial(jax.nn.softmax, axis=None)  # ∂s/∂aⱼ = pⱼ
    assert_rules(logsumexp, MATRIX, oracle=oracle.logsumexp, jacobian=gradient, **once)
    assert_third_order(logsumexp, MATRIX, oracle=oracle.logsumexp)
    assert_third_order(_weighted, MATRIX, POSITIVE, oracle=_weighted_oracle)
    assert_dtypes(logsumexp, MATRIX, keeps=True)
