"""The benchmark's table, report, pictures and gates, on results made up for the purpose."""

import json
import re

import jax
import jax.numpy as jnp
import pytest

from bench import cases, gates, goals, machine, peers, plots, random_cases, report, results
from bench.__main__ import main
from bench.conftest import CLOCK, facts
from jaxsoftmax.testing import compare
from jaxsoftmax.testing.cost.compare_op import arguments
from jaxsoftmax.testing.cost.modes import MODES
from jaxsoftmax.testing.cost.timing import Ratio
from jaxsoftmax.testing.operations import ALL
from jaxsoftmax.testing.operations.linear_loss import LINEAR
from jaxsoftmax.testing.operations.losses import LABELS
from jaxsoftmax.testing.operations.softmax import SOFTMAX

pytestmark = pytest.mark.once


def record(contender, seconds, *, op=SOFTMAX.name, shape=(80, 50257), mode="jvp", **changed):
    """One benchmark as pytest-benchmark stores it; `against` holds exact ratios."""
    against = {k: [v, 0.9 * v, 1.1 * v] for k, v in changed.pop("against", {}).items()}
    known = {
        "op": op,
        "source": "GPT-2",
        "shape": list(shape),
        "dtype": "float32",
        "mode": mode,
        "contender": contender,
        "status": "ok",
        "error": 2e-7,
        "tolerance": 2.4e-5,
        "against": against,
        "temp_bytes": 4096,
        "residual_bytes": 1000,
        "flops": 2e9,
        "gigaflops_per_second": 1e-9 * 2e9 / seconds,
        "flops_per_byte": 2.5,
    }
    return {"extra_info": known | changed, "stats": {"data": [seconds, seconds / 2, 2 * seconds]}}


@pytest.fixture
def benchmarks():
    return [
        record("automatic", 0.040, temp_bytes=2_000_000),
        record("custom", 0.010, against={"automatic": 4.0, "jax.nn": 0.5}),
        record("jax.nn", 0.005),
        record("automatic", 0.001, op=LABELS.name, shape=(150, 3), mode="value_and_grad"),
        record(
            "custom", 0.002, op=LABELS.name, shape=(150, 3), mode="value_and_grad",
            against={"automatic": 0.5},
        ),
        record(
            "optax", 0.0001, op=LABELS.name, shape=(150, 3), mode="value_and_grad",
            status="wrong", error=0.3,
        ),
    ]  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def result(benchmarks, name="result.json", **changed):
        known = {
            "name": "some-machine",
            "device_kind": "Some Processor",
            "platform": "cpu",
            "cores": 2,
            "jax": "0.12.0",
            "copy_bytes_per_second": 1e10,
            "matmul_flops_per_second": 1e11,
        }
        path = tmp_path / name
        content = {
            "datetime": "2026-11-21T23:00:00",
            "machine_info": known | changed,
            "benchmarks": benchmarks,
            "absent": "Not installed, and so not measured: torch.",
        }
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return result


@pytest.fixture
def result(write, benchmarks):
    return results.load(write(benchmarks))


# --- the table of cases --------------------------------------------------------------------------


def test_the_table_has_every_op_and_every_mode_once():
    rows = [(c.op, c.source, c.shape, c.dtype, mode) for c in cases.CASES for mode in c.modes]

    assert len(set(rows)) == len(rows)
    assert {row[0] for row in rows} == set(ALL)
    assert {row[-1] for row in rows} == set(MODES)
    assert {case.source for case in cases.CASES} == set(cases.SOURCES)


def test_full_holds_quick():
    quick, full = cases.select("quick"), cases.select("full")
    assert {case.op for case, _ in quick} == set(ALL)
    assert full[: len(quick)] == quick
    assert len(full) > len(quick)


def test_cases_hold_as_many_logits_as_the_table_says():
    small = ("iris", "digits", "MNIST")
    large = [c for c in cases.CASES if c.source not in small and c.op != LINEAR]
    quick = {case.shape for case in large if case.size == "quick"}
    full = {case.shape for case in large} - quick

    assert all(0.97 < rows * classes / 4.1e6 < 1.03 for rows, classes in quick)
    assert all(0.97 < rows * classes / 16.4e6 < 1.03 for rows, classes in full)


# --- measuring -----------------------------------------------------------------------------------


def test_the_clock_moves_by_the_samples():
    CLOCK.samples = iter([0.5, 0.25])
    start = CLOCK.now()
    CLOCK.advance()
    middle = CLOCK.now()
    CLOCK.advance()

    assert (middle - start, CLOCK.now() - middle) == (0.5, 0.25)
    with pytest.raises(StopIteration):
        CLOCK.advance()


def test_rates_are_of_what_must_move_and_of_the_ceilings():
    x = jnp.ones((64, 64))
    row = compare({"copy": lambda x: x + jnp.ones((), x.dtype)}, x, modes=["forward"], seconds=0.0)
    row = row.measurements[0]
    case = cases.Case(SOFTMAX, "iris", (64, 64), ("forward",))
    found = facts(case, row, {"copy_bytes_per_second": 1e9, "matmul_flops_per_second": 2e9})

    rate = 2 * x.nbytes / row.seconds
    assert found["gigabytes_per_second"] == pytest.approx(rate / 1e9)
    assert found["share_of_copy"] == pytest.approx(rate / 1e9)
    assert found["share_of_matmul"] == pytest.approx(x.size / row.seconds / 2e9)
    assert found["flops_per_byte"] == pytest.approx(x.size / (2 * x.nbytes))


def test_the_machine_is_described_without_its_host():
    found = machine.describe()

    assert found["jax"] == jax.__version__
    assert re.fullmatch(r"[a-z0-9-]+", found["name"])
    assert "node" not in found


def test_what_is_not_installed_is_said_in_a_sentence(monkeypatch):
    monkeypatch.setattr(peers, "installed", lambda name: name == "optax")
    assert peers.absent_sentence() == (
        "Not installed, and so not measured: torch, tokamax, jax-cce."
    )
    assert peers.foreign(LINEAR, "forward") == {}

    monkeypatch.setattr(peers, "installed", lambda name: True)
    assert peers.absent_sentence() == ""
    assert peers.foreign(LINEAR, "jvp") == {}


# --- reading a result ----------------------------------------------------------------------------


def test_a_result_is_read_in_the_order_of_the_ops(result):
    assert [entry.title for entry in result.entries] == ["softmax", "cross-entropy, labels"]
    entry = result.entries[0]
    assert entry.label == "GPT-2 80×50257 f32"
    assert entry.rows["custom"].seconds == 0.010
    assert entry.speed() == Ratio(4.0, 3.6, 4.4)
    assert entry.best_peer().contender == "jax.nn"


def test_a_wrong_peer_is_not_the_best(result):
    assert result.entries[1].best_peer() is None


def test_a_file_that_is_no_result_is_refused_in_a_sentence(tmp_path, capsys):
    path = tmp_path / "other.json"
    path.write_text("{}")

    assert main(["report", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"{path} is no result of this benchmark (KeyError('benchmarks')). Expected a file that "
        "./run bench wrote, below bench/results.\n"
    )


# --- the report ----------------------------------------------------------------------------------


def test_the_summary_shows_both_sides(result):
    assert report.summary(result) == [
        (
            "Against the textbook formula under JAX's derivatives: 1.41× as fast in the geometric "
            "mean of 2; faster in 1, slower in 1, and in 0 the 95 % interval holds 1."
        ),
        (
            "Against the fastest other library, case by case: 0.50× as fast in the geometric mean "
            "of 1; faster in 0, slower in 1, and in 0 the 95 % interval holds 1."
        ),
        (
            "Wrong, and so without a speed: optax (cross-entropy, labels, GPT-2 150×3 f32, "
            "value_and_grad: 3.0e-01)."
        ),
        "In the same run a plain copy moved 10 GB/s, and a float32 matrix product did 100 GFLOP/s.",
        "Not installed, and so not measured: torch.",
    ]


def test_the_markdown_has_a_row_for_each_case(result):
    lines = report.markdown(result).splitlines()

    assert lines[0] == "**softmax**"
    assert lines[4] == (
        "| GPT-2 80×50257 f32 | jvp | 40.0 ms | 10.0 ms | jax.nn 5.00 ms | 4.00× [3.60, 4.40] | "
        "0.50× [0.45, 0.55] | 2.00 MB → 4.10 kB | 2e-07 → 2e-07 |"
    )
    assert lines[6] == "**cross-entropy, labels**"
    assert "wrong" not in lines[10]  # of the three contenders the table shows, none is


def test_a_custom_rule_that_is_wrong_is_said_to_be_wrong(write, benchmarks):
    benchmarks[1]["extra_info"] |= {"status": "wrong", "error": 0.5, "against": {}}
    row = report.cells(results.load(write(benchmarks)).entries[0])

    assert row[3] == "wrong (5e-01)"
    assert row[5:7] == ("", "")


def test_the_page_and_the_pictures_are_written_beside_the_result(write, benchmarks, capsys):
    path = write(benchmarks)
    assert main(["report", str(path)]) == 0

    names = sorted(each.name for each in path.parent.iterdir())
    assert names == [
        "result-classes.png",
        "result-ratios.png",
        "result-roofline.png",
        "result.json",
        "result.md",
    ]
    page = path.with_suffix(".md").read_text()
    assert page.startswith("# Some Processor, 2 cores, JAX 0.12.0, 2026-11-21\n")
    assert "![result-ratios](result-ratios.png)" in page
    assert "GPT-2 80×50257 f32" in capsys.readouterr().out


def test_the_bars_start_at_one_and_end_at_the_speed(result):
    axes = plots.ratios(result).axes[0]
    bars = [patch for bar in axes.containers for patch in bar]

    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars]
    assert ends == [(1.0, 4.0), (1.0, 0.5)]
    colours = [bar.get_facecolor()[:3] for bar in bars]
    assert colours[0] != colours[1]
    assert axes.get_xlim()[0] < 0.45 < 4.4 < axes.get_xlim()[1]


def test_the_curves_are_per_logit_and_leave_out_what_is_wrong(result):
    figure = plots.classes(result)
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}

    assert set(lines) == {"automatic", "custom"}
    assert lines["custom"].get_xydata().tolist() == [[3, pytest.approx(0.002 / 450 * 1e9)]]


def test_the_page_gets_what_stands_between_its_marks(write, benchmarks, tmp_path, capsys):
    path, page = write(benchmarks), tmp_path / "page.md"
    page.write_text("before\n<!-- bench:begin -->\nan earlier table\n<!-- bench:end -->\nafter\n")

    for _ in range(2):  # the second time changes nothing
        assert main(["figures", str(path), "--page", str(page)]) == 0
        text = page.read_text()
        assert text.startswith("before\n<!-- bench:begin -->\n\nMeasured on Some Processor")
        assert text.endswith("(result.md).\n\n<!-- bench:end -->\nafter\n")
        assert "(result-ratios.png)" in text
        assert "an earlier table" not in text
        assert text.count("| GPT-2 80×50257 f32 |") == 1

    page.write_text("no marks")
    assert main(["figures", str(path), "--page", str(page)]) == 2
    assert page.read_text() == "no marks"
    assert capsys.readouterr().err == (
        f"{page} must hold the lines <!-- bench:begin --> and <!-- bench:end -->, between which "
        "the table is written.\n"
    )


# --- what changed --------------------------------------------------------------------------------


def test_a_result_does_not_differ_from_itself(write, benchmarks, capsys):
    path = str(write(benchmarks))

    assert main(["--compare", path, path]) == 0
    assert capsys.readouterr().out == (
        "2 cases are in both results, 0 only in the first, 0 only in the second.\n"
        "Nothing changed by more than noise.\n"
    )


def test_changes_are_of_speeds_counts_errors_and_results(write, benchmarks):
    old = results.load(write(benchmarks))
    benchmarks = json.loads(json.dumps(benchmarks))
    custom, other = benchmarks[1]["extra_info"], benchmarks[4]["extra_info"]
    custom["against"]["automatic"] = [3.0, 2.5, 3.5]  # was 3.6 to 4.4
    custom |= {"temp_bytes": 8192, "error": 5e-7, "flops": 3e9}
    other["against"]["automatic"] = [0.58, 0.54, 0.62]  # was 0.45 to 0.55: the two meet
    other["error"] = 3e-7
    benchmarks[2]["extra_info"] |= {"status": "wrong", "error": 1.0}
    new = results.load(write(benchmarks, "new.json"))

    case = "softmax, GPT-2 80×50257 f32, jvp"
    assert report.changes(old, new) == [
        (case, "custom", "speed against automatic", "4.00× [3.60, 4.40]", "3.00× [2.50, 3.50]"),
        (case, "custom", "temp bytes", "4.10 kB", "8.19 kB"),
        (case, "custom", "flops", "2.00 G", "3.00 G"),
        (case, "custom", "error", "2.0e-07", "5.0e-07"),
        (case, "jax.nn", "result", "ok", "wrong"),
    ]


# --- gates ---------------------------------------------------------------------------------------


def gate_of(found, what):
    return next(gate for gate in found if gate.what == what)


def measured(monkeypatch, custom, plain=None):
    """A comparison of the textbook's and a made-up rule, for the integer loss."""
    x, y = arguments(LABELS, (32, 100), "float32")
    monkeypatch.setitem(gates.SHAPES, LABELS.name, (32, 100))
    functions = {"automatic": lambda x, y: jnp.mean(-log_p(x, y)), "custom": custom}
    functions |= {"custom_vjp": plain} if plain else {}
    return compare(functions, x, y, modes=["value_and_grad"], seconds=0.0)


def log_p(x, y):
    return jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1)


def test_a_wrong_rule_breaks_a_gate(monkeypatch):
    found = measured(monkeypatch, lambda x, y: jnp.float32(1.001) * jnp.mean(-log_p(x, y)))

    assert [gate.holds for gate in gates.right(LABELS, found)] == [True, False]
    assert gates.slowdown(found) == 0.0  # and is not called fast


def test_scratch_of_the_size_of_the_logits_breaks_a_gate(monkeypatch):
    def wasteful(x, y):
        return jnp.mean(jax.lax.sort(-log_p(x, y) + jnp.sort(x * 0), dimension=1)[:, 0])

    assert not next(gates.scratch(LABELS, measured(monkeypatch, wasteful))).holds


def test_a_rule_that_costs_more_than_custom_vjp_breaks_a_gate(monkeypatch):
    def plain(x, y):
        return jnp.mean(-log_p(x, y))

    def twice(x, y):
        return plain(x, y) + jnp.float32(0.5) * plain(jnp.sin(x), y) * jnp.float32(0)

    assert all(gate.holds for gate in gates.same(LABELS, measured(monkeypatch, plain, plain)))
    assert not gate_of(
        gates.same(LABELS, measured(monkeypatch, twice, plain)), "operations, as custom_vjp"
    ).holds


@pytest.mark.parametrize(("high", "holds"), [(0.70, True), (0.60, False)])
def test_time_breaks_a_gate_only_where_the_whole_interval_is_too_slow(monkeypatch, high, holds):
    found = measured(monkeypatch, lambda x, y: jnp.mean(-log_p(x, y)))
    against = found.of("custom", "value_and_grad").against
    against["automatic"] = Ratio(0.55, 0.5, high)  # type: ignore[index]

    gate = gates.time(LABELS, found)
    assert gate.holds is holds
    assert gate.found == f"{1 / high:.2f}×"


def test_every_op_has_gates():
    assert set(gates.SHAPES) == {op.name for op in ALL}


@pytest.mark.parametrize(("least", "mark"), [(2.0, "yes"), (2.2, "level"), (2.6, "no")])
def test_a_goal_is_reached_or_within_the_noise_of_it_or_missed(least, mark, monkeypatch):
    theirs = [2.0 + 0.05 * i for i in range(-8, 9)]
    monkeypatch.setattr(goals, "in_turns", lambda *_, **__: {"ours": [1.0] * 17, "theirs": theirs})
    found, reached = goals.faster(None, None, least)
    assert (found, reached) == ("2.00× [1.80, 2.20]", mark)
    assert goals.smaller(5, 100, 0.05) == ("5.00%", "yes")
    assert goals.smaller(6, 100, 0.05) == ("6.00%", "no")


def test_goals_are_shown_and_written(monkeypatch, tmp_path, capsys):
    of_logits = [goals.Goal("a", "b", "2×", lambda: ("1.5×", "no"))]
    on_features = [goals.Goal("c", "d", "none", lambda: ("3×", "yes"))]
    monkeypatch.setattr(goals, "on_logits", lambda: of_logits)
    monkeypatch.setattr(goals, "on_features", lambda: on_features)
    monkeypatch.setattr(goals, "FOLDER", tmp_path)
    assert main(["--goals"]) == 0
    (page,) = tmp_path.rglob("goals-jax-*.md")
    assert "| a | b | 2× | 1.5× | no |\n| c | d | none | 3× |  |" in page.read_text()
    counted = "0 are reached, 0 are within the noise of it, 1 are missed."
    assert counted in page.read_text()
    assert counted in capsys.readouterr().out


def test_the_goals_are_those_of_shapes_that_exist():
    """Every one is made without being measured; the smallest of all is."""
    made = [*goals.on_logits(), *goals.on_features()]
    assert len({(goal.what, goal.than) for goal in made}) == len(made) == 23
    args = goals.linear(6, 4, 5)
    products = goals.program(goals.three_products, args, (), "forward")
    assert [x.shape for x in products()] == [(6, 4), (4, 5), ()]
    assert products.scratch >= 0


# --- cases that nobody chose ---------------------------------------------------------------------


def test_random_cases_are_those_of_their_seed_and_within_bounds():
    drawn = random_cases.draw(200, seed=3)

    assert drawn == random_cases.draw(200, seed=3) != random_cases.draw(200, seed=4)
    assert {case.op for case in drawn} == {op for op in ALL if op.peers}
    assert {case.mode for case in drawn} == set(MODES)
    assert all(case.shape[0] * case.shape[-1] <= random_cases.NUMBERS for case in drawn)
    odd = sum(case.shape[-1] % 2 for case in drawn)
    assert 60 < odd < 140


@pytest.mark.default_modes
@pytest.mark.parametrize(
    "op", [op for op in ALL if op.peers and op is not LINEAR], ids=lambda op: op.name
)
@pytest.mark.parametrize("mode", ["gradient", "vmapped"])
def test_every_operation_can_be_drawn(op, mode, monkeypatch):
    monkeypatch.setattr(random_cases, "SECONDS", 0.0)
    found = random_cases.measured(random_cases.Drawn(op, mode, "float32", (3, 5)))

    assert found["status"] == "ok"
    assert found["speed"] > 0


def test_the_headline_counts_all_cases():
    records = [
        {"case": str(i), "dtype": "float32", "status": "ok", "speed": speed}
        for i, speed in enumerate([0.5, *[1.0] * 8, 2.0])
    ]
    records.append({"case": "bad", "dtype": "bfloat16", "status": "wrong", "speed": None})
    records = [{**r, "speed_without_kernels": r["speed"] and 1.0} for r in records]

    on = (
        "10 cases: 1.00× the fastest peer in the geometric mean, "
        "worst tenth below 0.50×, 10% slower than 0.97×"
    )
    off = on.replace("0.50", "1.00").replace("10%", "0%")
    records.append({**records[0], "case": "sparsemax", "dtype": "none", "speed": 3.0})
    assert random_cases.summary(records)[2:] == [
        f"{'float32':33} {on}",
        f"{'float32, kernels off':33} {off}",
        f"{'without sparsemax':33} {on}",
        f"{'without sparsemax, kernels off':33} {off}",
        "wrong or not supported: bad",
    ]
    assert "11 cases: 1.11×" in random_cases.summary(records)[0]
