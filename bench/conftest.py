"""How pytest-benchmark comes to times that were taken in turns.

pytest-benchmark runs one benchmark to its end and then the next, while contenders are to be
compared in turns, so that each round meets the same machine. So the first contender of a case
measures all of them with the timer of `jaxsoftmax.testing.compare`, and each contender's own
benchmark replays its samples on a clock that stands still but for them: pytest-benchmark then has
one round per sample, and all that it computes, stores and shows is of the interleaved samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest

from bench import cases, machine, peers
from jaxsoftmax.testing.cost import Measurement
from jaxsoftmax.testing.cost.compare import measure
from jaxsoftmax.testing.cost.compare_op import arguments
from jaxsoftmax.testing.cost.modes import Mode
from jaxsoftmax.testing.operations.record import Operation

SECONDS = {"quick": 0.45, "full": 3.0}


class Clock:
    """A clock that moves by the next sample when told to."""

    def __init__(self) -> None:
        self.samples: Iterator[float] = iter(())
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def advance(self) -> None:
        self.time += next(self.samples)


CLOCK = Clock()
_MEASURED = pytest.StashKey[dict[tuple[cases.Case, Mode], dict[str, Measurement]]]()
_CEILINGS = pytest.StashKey[dict[str, float]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--size", choices=("quick", "full"), default="quick", help="how many cases")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_MEASURED] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    rows = [
        pytest.param(
            *(case, mode, name),
            id=f"{case.op.name} {case.label} {mode} {name}".replace("×", "x"),
        )
        for case, mode in cases.select(metafunc.config.getoption("size"))
        for name in names(case.op, mode)
    ]
    metafunc.parametrize(("case", "mode", "contender"), rows)


def names(op: Operation, mode: Mode) -> list[str]:
    """Who takes part. custom_vjp is asked for what it is made for alone; it refuses jvp."""
    reverse = mode == "value_and_grad"
    own = [name for name in op.contenders() if reverse or name != "custom_vjp"]
    return own + list(peers.foreign(op, mode))


@pytest.fixture
def replay(
    request: pytest.FixtureRequest, benchmark: Any, case: cases.Case, mode: Mode, contender: str
) -> Callable[[], None]:
    """Hands the interleaved samples of one contender to pytest-benchmark, with all else known."""

    def run() -> None:
        ceilings = measured_ceilings(request.config)
        row = measured(request.config, case, mode)[contender]
        benchmark.group = f"{case.op.title}: {case.label}, {mode}"
        benchmark.extra_info.update(facts(case, row, ceilings))
        if row.samples:
            CLOCK.samples = iter(row.samples)
            benchmark.pedantic(CLOCK.advance, rounds=len(row.samples))
        else:
            pytest.skip(row.note)

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.benchmark(timer=CLOCK.now))


def measured(config: pytest.Config, case: cases.Case, mode: Mode) -> dict[str, Measurement]:
    """All contenders of a case in a mode, measured once, in turns."""
    known = config.stash[_MEASURED]
    if (case, mode) not in known:
        known.clear()
        functions = {n: f for n, f in case.op.contenders().items() if n in names(case.op, mode)}
        args = arguments(case.op, case.shape, case.dtype)
        seconds = SECONDS[config.getoption("size")]
        rows = measure(
            functions,
            args,
            case.op.wrt,
            mode,
            functions["automatic"],
            None,
            seconds,
            seed=0,
            foreign=peers.foreign(case.op, mode),
        )
        known[case, mode] = {row.name: row for row in rows}
        jax.clear_caches()  # a hundred programs and their constants would pile up
    return known[case, mode]


def measured_ceilings(config: pytest.Config) -> dict[str, float]:
    if _CEILINGS not in config.stash:
        config.stash[_CEILINGS] = machine.ceilings()
    return config.stash[_CEILINGS]


def facts(case: cases.Case, row: Measurement, ceilings: dict[str, float]) -> dict[str, Any]:
    """What is stored beside the statistics."""
    found: dict[str, Any] = {
        "op": case.op.name,
        "source": case.source,
        "shape": list(case.shape),
        "dtype": case.dtype,
        "mode": row.mode,
        "contender": row.name,
        "status": row.status,
        "error": row.error,
        "tolerance": row.tolerance,
        "against": {name: list(ratio) for name, ratio in row.against.items()},
        **(row.cost._asdict() if row.cost else {}),
    }
    cost = row.cost
    if cost is None or cost.input_bytes is None or cost.output_bytes is None:
        return found
    # What must move at least: arguments in, results out. The compiler's own count, bytes_accessed,
    # is of all kernels, and what one writes and the next reads may never leave the cache.
    moved = (cost.input_bytes + cost.output_bytes) / row.seconds
    found["gigabytes_per_second"] = moved / 1e9
    found["share_of_copy"] = moved / ceilings["copy_bytes_per_second"]
    if cost.flops:
        done = cost.flops / row.seconds
        found["gigaflops_per_second"] = done / 1e9
        found["share_of_matmul"] = done / ceilings["matmul_flops_per_second"]
        found["flops_per_byte"] = cost.flops / (cost.input_bytes + cost.output_bytes)
    return found


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """Replaces what the plugin found, which names the host, by what matters to a time."""
    machine_info.clear()
    machine_info.update(machine.describe() | measured_ceilings(config))


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    output_json["absent"] = peers.absent_sentence()
    output_json["size"] = config.getoption("size")
    for benchmark in output_json["benchmarks"]:
        del benchmark["params"]  # functions, which are no JSON; its name and facts say the same
