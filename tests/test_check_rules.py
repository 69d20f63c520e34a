"""`check_rules` accepts right rules, and names what is wrong with wrong ones."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console

from jaxsoftmax import custom_rules
from jaxsoftmax.testing import RulesError, RulesReport, check_from_name, check_rules

X = np.array([0.3, -1.2, 2.0], np.float32)


def status(report: RulesReport) -> dict[str, str]:
    return {check.mode: check.status for check in report.checks}


def with_vjp(f: Callable[..., Any], fwd: Callable[..., Any], bwd: Callable[..., Any]) -> Any:
    g = jax.custom_vjp(f)
    g.defvjp(fwd, bwd)
    return g


# ------------------------------------------------------------------------------------------------
# Right rules, at points where rounding is large
# ------------------------------------------------------------------------------------------------


def cross_entropy(x: Any, label: Any) -> Any:
    return jax.nn.logsumexp(x) - x[label]


def naive_gradient(residuals: Any, bar: Any) -> Any:
    """p − e_y: right, and nothing but rounding where p is near e_y."""
    x, label = residuals
    return bar * (jax.nn.softmax(x) - jax.nn.one_hot(label, x.size, dtype=x.dtype)), None


naive_loss = with_vjp(cross_entropy, lambda x, y: (cross_entropy(x, y), (x, y)), naive_gradient)

RIGHT = {
    "confident": (naive_loss, (np.array([25.0, 0.0, -3.0], np.float32), 0)),
    "confidently wrong": (naive_loss, (np.array([25.0, 0.0, -3.0], np.float32), 1)),
    "large offset": (jax.nn.logsumexp, (np.float32(1e6) + np.arange(3, dtype=np.float32),)),
    "tiny": (jax.nn.softmax, (np.array([1e-20, 3e-20, 0.0], np.float32),)),
    "minus infinity": (jax.nn.log_softmax, (np.array([-np.inf, 0.0, 40.0], np.float32),)),
    "many classes": (jax.nn.softmax, (np.random.default_rng(0).normal(size=300) * 10,)),
    "long sums": (lambda x: jnp.sum(jnp.sin(x)), (np.linspace(0, 99, 3000),)),
    "small scale": (lambda x: jnp.log(x) / x, (np.array([2e-6, 3e-6]),)),
    "constant": (lambda x: 0 * x, (X,)),
    "no curvature": (lambda x, w: x @ w, (np.eye(2) * 1e5, np.ones((2, 3)) * 1e-7)),
    "half precision": (jax.nn.softmax, (X.astype(jnp.bfloat16),)),
}


@pytest.mark.default_modes
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_rule_passes(name: str) -> None:
    f, args = RIGHT[name]
    report = check_rules(f, *args, dtypes=("float32",))
    assert report.ok, report


def test_it_is_as_sure_of_float32_arguments_as_of_float64() -> None:
    """A part in a million is invisible in float32 and wrong all the same."""
    slightly = with_vjp(
        jnp.sin, lambda x: (jnp.sin(x), x), lambda x, b: (b * jnp.cos(x) * 1.000001,)
    )
    report = check_rules(slightly, X, order=1)
    assert [check.mode for check in report.failures] == ["vjp = finite differences"]


def test_pytrees_integers_and_options() -> None:
    def model(params: Any, batch: Any, *, power: int, scale: float = 1.0) -> Any:
        x, index = batch
        z = jnp.tanh(x @ params["w"] * jnp.asarray(scale, x.dtype))[index] ** power
        return {"z": z, "argmax": jnp.argmax(z, -1)}, z.sum()

    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(3, 2)).astype(np.float32)}
    batch = rng.normal(size=(4, 3)).astype(np.float32), np.array([1, 3, 0])
    report = check_rules(model, params, batch, power=3, dtypes=("float32",))
    assert report.ok, report
    assert report.name == "model"
    assert {"vmap of args[0]", "vmap of args[1]", "vmap of all args"} <= set(status(report))
    assert check_rules(partial(model, scale=0.5), params, batch, power=2, order=1).name == "model"


# ------------------------------------------------------------------------------------------------
# Wrong rules: which mode, which element, by how much
# ------------------------------------------------------------------------------------------------


def softmax(x: Any) -> Any:
    return jax.nn.softmax(x)


diagonal = with_vjp(
    softmax, lambda x: (softmax(x), softmax(x)), lambda s, bar: (s * (1 - s) * bar,)
)


def test_the_diagonal_gradient_of_softmax_is_wrong() -> None:
    report = check_rules(diagonal, X)
    assert status(report) == {
        "jvp = finite differences": "not supported",
        "vjp = finite differences": "wrong",
        "adjointness of jvp and vjp": "not supported",
        "without jit": "ok",
        "vmap of args[0]": "ok",
        "float32": "ok",
        "bfloat16": "ok",
    }
    (wrong,) = report.failures
    assert wrong.error > 1e6  # times what rounding explains


def test_the_element_and_the_error_are_named() -> None:
    def fwd(params: Any) -> Any:
        return jnp.sum(params["w"] ** 2), params["w"]

    def bwd(w: Any, bar: Any) -> Any:
        return ({"w": (2 * w * bar).at[1, 0].add(0.25 * bar)},)

    f = with_vjp(lambda params: jnp.sum(params["w"] ** 2), fwd, bwd)
    report = check_rules(f, {"w": np.array([[1.0, 2.0], [3.0, 4.0]])}, order=1)
    (wrong,) = report.failures
    assert wrong.element == "args[0]['w'][1, 0]"
    np.testing.assert_allclose(wrong.got / wrong.expected, 6.25 / 6, rtol=1e-9)


def test_a_wrong_jvp() -> None:
    @jax.custom_jvp
    def f(x: Any, y: Any) -> Any:
        return x * y

    f.defjvp(lambda p, t: (p[0] * p[1], t[0] * p[1] - p[0] * t[1]))
    report = check_rules(f, X, X[::-1].copy(), order=1, dtypes=())
    wrong = {check.mode: check for check in report.failures}
    assert set(wrong) == {"jvp = finite differences", "vjp = finite differences"}
    forward = wrong["jvp = finite differences"]
    assert forward.element in {f"∂out[{i}]/∂args[1][{i}]" for i in range(3)} | {
        f"∂out[{i}]/∂a random line" for i in range(3)
    }


def test_rules_that_are_not_each_others_transpose() -> None:
    f = custom_rules(jnp.sin)
    f.defrules(
        fwd=lambda x: (f(x), x),
        jvp=lambda x, x_dot: jnp.cos(x) * x_dot,
        vjp=lambda x, y_bar: (2 * jnp.cos(x) * y_bar,),
    )
    failing = {check.mode for check in check_rules(f, X, dtypes=()).failures}
    assert {"vjp = finite differences", "adjointness of jvp and vjp"} <= failing
    assert {"forward over reverse", "reverse over reverse"} <= failing
    assert not {"jvp = finite differences", "forward over forward"} & failing


def test_a_rule_that_is_right_at_first_order_only() -> None:
    f = with_vjp(
        jnp.sin,
        lambda x: (jnp.sin(x), jax.lax.stop_gradient(jnp.cos(x))),
        lambda slope, bar: (slope * bar,),
    )
    report = status(check_rules(f, X, dtypes=()))
    assert report["vjp = finite differences"] == "ok"
    assert report["reverse over reverse"] == "wrong"
    assert report["forward over reverse"] == "wrong"
    assert report["reverse over forward"] == "not supported"


def test_a_cotangent_taken_for_constant() -> None:
    """Invisible in f alone: it shows where something follows f."""
    stop = jax.lax.stop_gradient
    f = with_vjp(jnp.sin, lambda x: (jnp.sin(x), x), lambda x, bar: (jnp.cos(x) * stop(bar),))
    report = status(check_rules(f, X, dtypes=()))
    assert report["vjp = finite differences"] == "ok"
    assert report["reverse over reverse"] == "wrong"


def test_a_wrong_batching_rule() -> None:
    @jax.custom_batching.custom_vmap
    def f(x: Any) -> Any:
        return 2 * x

    f.def_vmap(lambda size, batched, x: (3 * x, True))
    g = with_vjp(f, lambda x: (f(x), None), lambda _, bar: (2 * bar,))
    assert [check.mode for check in check_rules(g, X, dtypes=()).failures] == ["vmap of args[0]"]


def test_a_function_that_is_another_under_jit() -> None:
    f = with_vjp(
        lambda x: x * (2 if isinstance(x, jax.core.Tracer) else 3),
        lambda x: (2 * x, None),
        lambda _, bar: (2 * bar,),
    )
    assert "without jit" in {check.mode for check in check_rules(f, X, dtypes=()).failures}


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_overflow_in_low_precision() -> None:
    def naive(x: Any) -> Any:
        return jnp.exp(x) / jnp.sum(jnp.exp(x))

    report = check_rules(
        naive, np.array([100.0, 99.0, 98.0]), order=1, dtypes=("float32", "float16")
    )
    assert {check.mode for check in report.failures} == {"float32", "float16"}
    assert check_rules(
        jax.nn.softmax, np.array([100.0, 99.0, 98.0]), order=1, dtypes=("float16",)
    ).ok


def test_the_reference_and_the_dense_formula() -> None:
    def jacobian(x: Any) -> Any:
        p = jax.nn.softmax(x)
        return jnp.diag(p) - jnp.outer(p, p)

    def plain(x: Any) -> Any:
        return jnp.exp(x) / jnp.sum(jnp.exp(x))

    assert check_rules(jax.nn.softmax, X, reference=plain, jacobian=jacobian, order=1, dtypes=()).ok
    other = check_rules(
        jax.nn.softmax, X, reference=jnp.tanh, jacobian=lambda x: -jacobian(x), order=1, dtypes=()
    )
    assert {check.mode for check in other.failures} == {
        "value = reference",
        "jvp = jax.jvp of reference",
        "vjp = jax.jvp of reference",
        "jvp = jacobian",
        "vjp = jacobian",
    }


def test_a_kink_is_undecided() -> None:
    report = check_rules(jnp.abs, np.array([1.0, 0.0, -1.0]), dtypes=())
    assert status(report)["jvp = finite differences"] == "undecided"
    assert not report.ok
    assert check_rules(jnp.abs, np.array([1.0, 0.5, -1.0]), dtypes=()).ok


# ------------------------------------------------------------------------------------------------
# The report
# ------------------------------------------------------------------------------------------------


def half() -> custom_rules:
    f = custom_rules(lambda x: x / 2)
    f.__name__ = "half"
    f.defrules(lambda x: (f(x), ()), lambda _, x_dot: x_dot / 2, lambda _, y_bar: (y_bar,))
    return f


def test_the_report_as_text_and_as_exception() -> None:
    report = check_rules(half(), np.float32(3.0), order=1, dtypes=())
    lines = str(report).splitlines()
    failing = "vjp = finite differences; adjointness of jvp and vjp"
    assert lines[0] == f"half: 2 of 5 checks fail: {failing}."
    assert lines[2] == "check                       result  error / limit  worst element"
    assert [line.split("  ")[0] for line in lines[3:]] == [c.mode for c in report.checks]
    wrong = next(line for line in lines if line.startswith("vjp"))
    vjp = report.failures[0]
    assert wrong.endswith(
        f"args[0]: expected {vjp.expected:.6g}, got {vjp.got:.6g}, "
        f"off by {abs(vjp.got - vjp.expected):.2g}"
    )
    with pytest.raises(RulesError) as error:
        report.raise_on_failure()
    assert str(error.value) == str(report)
    with pytest.raises(RulesError):
        check_rules(half(), np.float32(3.0), order=1, dtypes=(), raise_on_failure=True)
    right = check_rules(jnp.sin, X, order=1, dtypes=())
    right.raise_on_failure()
    assert str(right).startswith("sin: the rules hold in 5 checks.\n")


def test_the_report_as_a_table() -> None:
    report = check_rules(half(), np.float32(3.0), order=1, dtypes=())
    console = rich.console.Console(width=120, file=io.StringIO())
    console.print(report)
    text = console.file.getvalue()
    assert "half: 2 of 5 checks fail" in text
    assert text.count("wrong") == 2
    for check in report.checks:
        assert check.mode in text


MISTAKES = {
    "complex": (
        lambda: check_rules(jnp.abs, np.ones(2, np.complex64)),
        (
            "check_rules: arguments must be real or integer, got complex64[2]. "
            "Check real and imaginary parts as two arguments."
        ),
    ),
    "no floating argument": (
        lambda: check_rules(lambda i: i * 1.0, np.arange(3)),
        (
            "check_rules: there is nothing to differentiate: no argument has a floating element. "
            "Pass arrays of a floating dtype."
        ),
    ),
    "no floating result": (
        lambda: check_rules(jnp.argmax, X),
        (
            "check_rules: there is nothing to differentiate: no result has a floating element. "
            "Return arrays of a floating dtype."
        ),
    ),
    "no colon": (
        lambda: check_from_name("jax.nn.softmax", "3"),
        (
            "Expected MODULE:FUNCTION or FILE.py:FUNCTION, got 'jax.nn.softmax'. "
            "Write for example jax.nn:softmax."
        ),
    ),
    "no module": (
        lambda: check_from_name("no_such_module:f", "3"),
        "There is no module 'no_such_module'. Name an installed module, or a file as FILE.py.",
    ),
    "no file": (
        lambda: check_from_name("no_such_file.py:f", "3"),
        "There is no file 'no_such_file.py'. Give its path from here.",
    ),
    "no function": (
        lambda: check_from_name("jax.nn:no_such_function", "3"),
        "jax.nn has no function 'no_such_function'. Name one that it defines.",
    ),
    "no shape": (
        lambda: check_from_name("jax.nn:softmax", "3 by 4"),
        (
            "Expected a shape and what it holds, got '3 by 4'. "
            "Write for example 4x10, scalar, 4x10:prob or 4:int10."
        ),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_by_a_sentence(mistake: str) -> None:
    make, sentence = MISTAKES[mistake]
    with pytest.raises((TypeError, ValueError)) as error:
        make()
    assert str(error.value) == sentence


def test_a_mistake_in_a_rule_is_not_hidden() -> None:
    f = with_vjp(jnp.sin, lambda x: (jnp.sin(x), x), lambda x, bar: (bar[:1],))
    with pytest.raises(ValueError, match=r"Custom VJP bwd rule.*must produce an output"):
        check_rules(f, X)


def test_a_function_named_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import jax.numpy as jnp\n"
        "def loss(x, q, y, scale):\n"
        "    return scale * jnp.sum(x * q) + x[0, y[0]]\n"
    )
    report = check_from_name(f"{file}:loss", "2x3", "2x3:prob", "2:int3", "scalar")
    assert report.ok, report
    assert report.name == "loss"
