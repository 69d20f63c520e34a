"""`compare`: what it measures is what it says, and what is wrong has no speed."""

import io
import math
import re
import statistics
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsoftmax
from jaxsoftmax.testing import compare, compare_op
from jaxsoftmax.testing.cost import programs
from jaxsoftmax.testing.cost.compare_op import arguments
from jaxsoftmax.testing.cost.modes import MODES, problem
from jaxsoftmax.testing.cost.timing import FEWEST_ROUNDS, in_turns, median_interval, ratio
from jaxsoftmax.testing.cost.units import count, duration, size
from jaxsoftmax.testing.operations import ALL, BY_NAME
from jaxsoftmax.testing.operations.linear_loss import LINEAR
from jaxsoftmax.testing.operations.log_softmax import LOG_SOFTMAX
from jaxsoftmax.testing.operations.softmax import SOFTMAX

ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)), jnp.float32)


# --- the timer -----------------------------------------------------------------------------------


def test_every_round_times_every_program_and_the_order_changes():
    calls: list[str] = []
    samples = in_turns({name: lambda n=name: calls.append(n) for name in "abc"}, seconds=0.0)

    assert [len(samples[name]) for name in "abc"] == [FEWEST_ROUNDS] * 3
    assert all(sample > 0 for values in samples.values() for sample in values)
    rounds = [name for i, name in enumerate(calls) if i == 0 or calls[i - 1] != name]
    assert len({tuple(rounds[i : i + 3]) for i in range(9, len(rounds) - 3, 3)}) > 1


def test_a_ratio_is_the_median_of_rounds_and_not_the_ratio_of_medians():
    # The machine doubles its time half way: each round still says 3.
    this = [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]

    assert ratio([3 * t for t in this], this) == (3.0, 3.0, 3.0)
    assert ratio([1.0, 2.0, 9.0, 1.0, 1.0, 1.0, 1.0], [1.0] * 7).estimate == 1.0


@pytest.mark.parametrize(
    ("n", "k"),
    # Tables of the sign test at 5 %: 7 tosses allow k = 1, 15 allow 4, 50 allow 18.
    [(7, 1), (15, 4), (50, 18)],
)
def test_the_interval_of_a_median_is_that_of_the_sign_test(n, k):
    assert median_interval(range(1, n + 1)) == (k, n + 1 - k)


def test_too_few_values_span_the_interval():
    assert median_interval([2.0, 1.0, 3.0]) == (1.0, 3.0)


# --- the modes -----------------------------------------------------------------------------------


def jacobian(p):
    return np.diag(p) - np.outer(p, p)


def results(function, mode, *args, wrt=(0,)):
    given = problem(function, args, wrt, mode, seed=0)
    return jax.jit(given.program)(*given.args), given.args[1]


def test_each_mode_computes_the_derivative_it_names():
    p = np.asarray(jax.nn.softmax(ROWS.astype(jnp.float32)))
    J = np.stack([jacobian(row) for row in p])

    out, bar = results(jax.nn.softmax, "value_and_grad", ROWS)
    np.testing.assert_allclose(out[1][0], np.einsum("nij,ni->nj", J, bar[0]), atol=1e-6)
    out, dot = results(jax.nn.softmax, "jvp", ROWS)
    np.testing.assert_allclose(out[1], np.einsum("nij,nj->ni", J, dot[0]), atol=1e-6)
    out, bar = results(jax.nn.softmax, "vmapped", ROWS)
    np.testing.assert_allclose(out[1][0], np.einsum("nij,ni->nj", J, bar[0]), atol=1e-6)
    out, _ = results(jax.nn.softmax, "forward", ROWS)
    np.testing.assert_allclose(out, p, rtol=1e-6)
    # logsumexp: its cotangent times J is the derivative of its gradient in a direction.
    out, (bars, dots) = results(lambda x: jax.nn.logsumexp(x, -1), "hvp", ROWS)
    expected = np.einsum("n,nij,nj->ni", bars[0], J, dots[0])
    np.testing.assert_allclose(out[0], expected, atol=1e-6)


def test_a_scalar_is_differentiated_with_cotangent_one_in_all_arguments_asked():
    (value, (a_bar, b_bar)), bars = results(jnp.vdot, "value_and_grad", ROWS, 2 * ROWS, wrt=(0, 1))

    assert bars == ((),)
    np.testing.assert_allclose(value, 2 * jnp.sum(ROWS * ROWS), rtol=1e-6)
    np.testing.assert_array_equal(a_bar, 2 * ROWS)
    np.testing.assert_array_equal(b_bar, ROWS)


def test_directions_are_the_same_in_every_dtype():
    given = [problem(jnp.sin, (ROWS.astype(d),), (0,), "jvp", 3) for d in ("bfloat16", "float32")]
    narrow, wide = (each.args[1][0] for each in given)

    np.testing.assert_array_equal(narrow.astype(jnp.float32), wide)
    assert len(np.unique(wide)) > 3


# --- error ---------------------------------------------------------------------------------------


def test_the_error_is_relative_to_the_largest_number_of_each_array():
    assert programs.error([np.array([1.0, 200.0])], [np.array([1.0, 100.0])]) == 1.0
    assert programs.error([np.zeros(2), np.ones(1)], [np.zeros(2), np.full(1, 2.0)]) == 0.5
    assert programs.error(np.array([-np.inf, 1.0]), np.array([-np.inf, 1.0])) == 0.0
    assert programs.error(np.array([np.inf, 1.0]), np.array([-np.inf, 1.0])) == math.inf
    assert programs.error(np.array([np.nan]), np.array([1.0])) == math.inf


def test_the_tolerance_is_that_of_the_coarsest_dtype():
    f32, bf16 = jnp.ones(1), jnp.ones(1, jnp.bfloat16)

    assert programs.tolerance(f32) == pytest.approx(2.4e-5, rel=0.02)
    assert programs.tolerance((bf16, jnp.ones(1, int)), f32) == pytest.approx(0.039, rel=0.02)


# --- compare -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    functions = {
        "textbook": jax.nn.log_softmax,
        "ours": jaxsoftmax.log_softmax,
        "off": lambda x: jax.nn.log_softmax(x) * jnp.float32(1.0001),
        "reverse only": LOG_SOFTMAX.contenders()["custom_vjp"],
    }
    return compare(functions, ROWS, modes=("value_and_grad", "jvp"), seconds=0.01)


def test_what_is_right_has_a_ratio_to_all_else_that_is_right(found):
    row = found.of("ours", "value_and_grad")

    assert row.status == "ok"
    assert set(row.against) == {"textbook", "reverse only"}
    assert len(row.samples) >= FEWEST_ROUNDS
    assert row.seconds == statistics.median(row.samples)
    other = found.of("textbook", "value_and_grad")
    assert row.against["textbook"] == ratio(other.samples, row.samples)


def test_what_is_wrong_is_said_to_be_wrong_and_has_no_speed(found):
    row = found.of("off", "jvp")

    assert row.status == "wrong"
    assert row.against == {}
    assert row.error == pytest.approx(1e-4, rel=0.05)
    assert all("off" not in other.against for other in found.measurements)


def test_a_mode_without_derivative_is_said_not_to_be_supported(found):
    row = found.of("reverse only", "jvp")

    assert (row.status, row.cost) == ("not supported", None)
    assert "custom_vjp" in row.note
    assert f"reverse only, jvp: {row.note}" in str(found)


def test_costs_are_those_of_the_compiled_program(found):
    program = problem(jaxsoftmax.log_softmax, (ROWS,), (0,), "value_and_grad", 0)
    executable = jax.jit(program.program).lower(*program.args).compile()
    cost = found.of("ours", "value_and_grad").cost

    called = "custom-call" in executable.as_text()  # of whose operations XLA knows nothing
    assert cost.flops == (None if called else executable.cost_analysis()["flops"])
    assert cost.temp_bytes == executable.memory_analysis().temp_size_in_bytes
    assert cost.output_bytes == 2 * ROWS.nbytes + 16  # two arrays and the table of their addresses
    assert cost.compile_seconds > 0


def test_residuals_leave_out_the_arguments():
    def cubed(x):
        return jnp.sum(x**3)

    def product(x, y):
        return jnp.sin(x) * y

    # 3 x² of the one; cos x and sin x of the other, where y is an argument.
    assert programs._residual_bytes(cubed, (ROWS,), (0,)) == ROWS.nbytes
    assert programs._residual_bytes(product, (ROWS, ROWS), (0, 1)) == 2 * ROWS.nbytes


def test_a_reference_of_ones_own_decides_what_is_right():
    functions = {"doubled": lambda x: 2 * x, "right": lambda x: 3 * x}
    result = compare(functions, ROWS, modes=["forward"], seconds=0.0, reference=lambda x: 3 * x)

    assert [row.status for row in result.measurements] == ["wrong", "ok"]
    assert result.of("right", "forward").against == {}


def test_a_reference_may_hold_float32_constants_in_strict_modes():
    result = compare({"half": lambda x: x * jnp.float32(0.5)}, ROWS, modes=["jvp"], seconds=0.0)

    assert result.of("half", "jvp").error == 0.0


def test_arguments_keep_their_sharding():
    mesh = jax.make_mesh((4,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.P("rows"))
    x = jax.device_put(jnp.ones((8, 16)), sharding)
    result = compare(
        {"softmax": jaxsoftmax.softmax}, x, modes=["value_and_grad"], seconds=0.0, seed=1
    )

    row = result.measurements[0]
    assert row.status == "ok"
    # Per device: a quarter of the logits, and a quarter or all of the cotangents.
    assert row.cost.input_bytes in (2 * x.nbytes // 4, x.nbytes // 4 + x.nbytes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"functions": {}}, "Expected at least one function, got an empty mapping."),
        (
            {"wrt": 2},
            "wrt must name arguments between 0 and 1, since there are 2, got 2.",
        ),
        (
            {"wrt": (0, 1)},
            (
                "wrt names argument 1, which holds int32[6]; "
                "only floating-point arguments have a derivative."
            ),
        ),
        (
            {"modes": ["grad"]},
            (
                "There is no mode 'grad'. Choose from "
                "forward, gradient, value_and_grad, jvp, hvp, vmapped."
            ),
        ),
    ],
)
def test_arguments_that_make_no_sense_are_refused_in_a_sentence(change, message):
    given = {"functions": {"f": lambda x, y: x}} | change
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        compare(given.pop("functions"), ROWS, jnp.zeros(6, int), **given)


def test_when_no_function_can_be_differentiated_the_reason_is_raised():
    with pytest.raises(TypeError, match="custom_vjp"):
        compare({"one": SOFTMAX.contenders()["custom_vjp"]}, ROWS, modes=["jvp"], seconds=0.0)


# --- the report ----------------------------------------------------------------------------------


def test_numbers_have_three_digits_and_a_unit():
    assert [duration(t) for t in (2.5, 0.0213, 4.5e-5)] == ["2.50 s", "21.3 ms", "45.0 µs"]
    assert [size(n) for n in (0, 999, 20480, 4.1e6, None)] == [
        "0 B",
        "999 B",
        "20.5 kB",
        "4.10 MB",
        "",
    ]
    assert count(21_500_000) == "21.5 M"


def test_text_and_table_have_a_row_for_each_measurement(found):
    lines = str(found).splitlines()
    assert lines[0] == ("float32[6, 5] on cpu; speed is against textbook, with a 95 % interval.")
    assert [line.split()[:2] for line in lines[2:5]] == [
        ["mode", "function"],
        ["value_and_grad", "textbook"],
        ["value_and_grad", "ours"],
    ]
    assert "wrong" in lines[5]

    rich = pytest.importorskip("rich.console", reason="the table is rich's")
    screen = io.StringIO()
    rich.Console(file=screen, width=200).print(found)
    shown = screen.getvalue()
    for row in found.measurements:
        assert row.name in shown
    assert shown.count("not supported") == 1
    assert shown.count("wrong") == 2


def test_the_plot_has_a_bar_for_each_measurement(found, tmp_path):
    figure = found.plot(tmp_path / "bars.png")

    assert (tmp_path / "bars.png").stat().st_size > 5000
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [
        "value_and_grad: time of a call",
        "value_and_grad: scratch memory",
        "jvp: time of a call",
        "jvp: scratch memory",
    ]
    bars = figure.axes[0].containers
    widths = [patch.get_width() for bar in bars if hasattr(bar, "patches") for patch in bar]
    assert widths == [found.of(n, "value_and_grad").seconds for n in names(found)]
    assert "not supported" in [text.get_text() for text in figure.axes[2].texts]


def names(found):
    return list(dict.fromkeys(row.name for row in found.measurements))


def test_without_matplotlib_the_plot_says_what_to_install(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    message = "drawn with matplotlib, which is not installed. Write: pip install matplotlib"
    with pytest.raises(ModuleNotFoundError, match=message):
        found.plot()


# --- the operations by name ----------------------------------------------------------------------


@pytest.mark.default_modes
@pytest.mark.parametrize("op", ALL, ids=lambda op: op.name)
def test_all_contenders_of_an_operation_compute_the_same(op):
    args = arguments(op, (4, 3, 7) if op is LINEAR else (4, 7), "float32")
    functions, wrt = op.contenders(), op.wrt
    expected = programs.in_float64(functions["automatic"], args, wrt, "value_and_grad", 0)

    assert list(functions)[:2] == ["automatic", "custom"]
    for function in functions.values():
        given = problem(function, args, wrt, "value_and_grad", 0)
        got = jax.jit(given.program)(*given.args)
        assert programs.error(got, expected) < 2e-6


@pytest.mark.default_modes
def test_an_operation_is_compared_by_name():
    result = compare_op("logsumexp", (3, 5), "bfloat16", ["forward"], seconds=0.0)

    assert [row.status for row in result.measurements] == ["ok"] * 4
    assert result.setting == "bfloat16[3, 5] on cpu"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("softmax", "2,3"), "Expected a shape such as 4096x1000, got '2,3'."),
        (
            ("softmin", (2, 3)),
            f"There is no operation 'softmin'. Choose from {', '.join(BY_NAME)}.",
        ),
        (
            ("softmax", (2, 3, 4)),
            "The shape of softmax is rows and classes, all positive, got (2, 3, 4).",
        ),
        (
            ("linear_softmax_cross_entropy", (2, 3)),
            (
                "The shape of linear_softmax_cross_entropy is rows, features and classes, "
                "all positive, got (2, 3)."
            ),
        ),
        (
            ("softmax", (2, 3), "int8"),
            "dtype must be float16, bfloat16, float32 or float64, got 'int8'.",
        ),
        (
            ("softmax", (2, 3), "float64"),
            "float64 needs JAX's 64-bit mode. Set the environment: JAX_ENABLE_X64=1",
        ),
    ],
)
def test_an_operation_that_cannot_be_compared_is_refused_in_a_sentence(given, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        compare_op(*given)


def test_every_mode_is_documented():
    assert set(MODES) <= set(compare.__doc__.replace('"', " ").split())
