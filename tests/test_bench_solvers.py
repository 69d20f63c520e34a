"""The comparison of solvers: its judge is right, and a fit short of the optimum does not count."""

import sys

import numpy as np
import pytest

from bench import solvers
from jaxsoftmax.sklearn import SoftmaxClassifier

pytestmark = [pytest.mark.default_modes, pytest.mark.once]


def test_the_judge_knows_objective_and_gradient():
    case = solvers.Case(*solvers.small("wine"), 1e-2)
    random = np.random.default_rng(0)
    kernel, bias = random.normal(size=(13, 3)), random.normal(size=3)
    value, steepest = solvers.judge(case, kernel, bias, case.l2)
    largest = 0.0
    for place in np.ndindex(14, 3):
        step = np.zeros((14, 3))
        step[place] = 1e-5
        ahead, behind = (
            solvers.judge(case, kernel + s * step[:13], bias + s * step[13], case.l2)[0]
            for s in (1, -1)
        )
        largest = max(largest, abs(ahead - behind) / 2e-5)
    assert steepest == pytest.approx(largest, rel=1e-6)
    fitted = SoftmaxClassifier(C=case.strength, tol=1e-9, dtype="float64").fit(*case[:2])
    best, flat = solvers.judge(case, fitted.coef_.T, fitted.intercept_, case.l2)
    assert best == pytest.approx(fitted.objective_, rel=1e-9)
    assert best < value
    assert flat <= 1e-9
    assert solvers.counts(solvers.Reached(best, flat, []), best)
    assert not solvers.counts(solvers.Reached(best, 2e-6, []), best)
    assert not solvers.counts(solvers.Reached(best * (1 + 2e-6), flat, []), best)


@pytest.mark.parametrize("name", ["iris", "cancer"])
def test_all_solvers_meet_at_one_optimum(name):
    case = solvers.Case(*solvers.small(name), 1e-2)
    found = solvers.measure(case, rounds=1)
    best = min(reached.objective for reached in found.values())
    for solver in ("ours f64", "ours f32", "newton-cg f64", "newton-cholesky f64"):
        assert solvers.counts(found[solver], best), solver
        assert found[solver].seconds
    table = solvers.one_fit(name, case, rounds=1)
    assert table[-1].endswith("** as fast.")


def test_a_process_is_watched():
    seconds, memory = solvers.watched([sys.executable, "-c", "x = bytearray(200_000_000)"], {})
    assert seconds > 0
    assert 200 < memory < 300
    held = bytearray(400_000_000)  # which is not the other process's
    assert solvers.watched([sys.executable, "-c", ""], {})[1] < 100
    del held
    with pytest.raises(RuntimeError, match="ended with 3"):
        solvers.watched([sys.executable, "-c", "raise SystemExit(3)"], {})
