"""A result file, read: pytest-benchmark's JSON with what bench/conftest.py adds to it."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from pathlib import Path
from typing import Any

from bench.cases import SHORT
from jaxsoftmax.testing.cost.timing import Ratio
from jaxsoftmax.testing.operations import BY_NAME

OURS = ("custom", "custom_vjp", "unfused")
Key = tuple[str, str, tuple[int, ...], str, str]


@dataclasses.dataclass(frozen=True)
class Row:
    """One contender in one case and mode."""

    contender: str
    status: str
    seconds: float
    error: float
    against: dict[str, Ratio]
    facts: dict[str, Any]

    @property
    def right(self) -> bool:
        return self.status == "ok"

    def number(self, name: str) -> float | None:
        """A number that may be unknown, such as "temp_bytes"."""
        value = self.facts.get(name)
        return None if value is None else float(value)


@dataclasses.dataclass(frozen=True)
class Entry:
    """All contenders of one case in one mode."""

    op: str
    source: str
    shape: tuple[int, ...]
    dtype: str
    mode: str
    rows: dict[str, Row]

    @property
    def key(self) -> Key:
        return self.op, self.source, self.shape, self.dtype, self.mode

    @property
    def label(self) -> str:
        """As in "GPT-2 80×50257 f32"."""
        return f"{self.source} {'×'.join(map(str, self.shape))} {SHORT[self.dtype]}"

    @property
    def title(self) -> str:
        return BY_NAME[self.op].title

    @property
    def logits(self) -> int:
        return self.shape[0] * self.shape[-1]

    def best_peer(self) -> Row | None:
        """The fastest right contender that is neither ours nor the textbook."""
        rows = [r for n, r in self.rows.items() if r.right and n not in (*OURS, "automatic")]
        return min(rows, key=lambda row: row.seconds, default=None)

    def speed(self, other: str = "automatic") -> Ratio | None:
        """How many times as long as ours another contender takes; None unless both are right."""
        return self.rows["custom"].against.get(other) if "custom" in self.rows else None


@dataclasses.dataclass(frozen=True)
class Result:
    """One run of the benchmark."""

    path: Path
    date: str
    machine: dict[str, Any]
    absent: str
    entries: tuple[Entry, ...]

    def machine_sentence(self) -> str:
        m = self.machine
        kind = m["device_kind"] + (f", {m['cores']} cores" if m["platform"] == "cpu" else "")
        return f"{kind}, JAX {m['jax']}, {self.date}"

    def ceilings_sentence(self) -> str:
        copy, product = (
            self.machine[name] / 1e9
            for name in ("copy_bytes_per_second", "matmul_flops_per_second")
        )
        return (
            f"In the same run a plain copy moved {copy:.3g} GB/s, and a float32 matrix product did "
            f"{product:.3g} GFLOP/s."
        )


def load(path: str | Path) -> Result:
    """Reads a result file.

    Raises:
      ValueError: it is not one.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries: dict[Key, Entry] = {}
        for benchmark in content["benchmarks"]:
            _add(entries, benchmark)
        date = content["datetime"][:10]
        machine = content["machine_info"]
        order = sorted(entries.values(), key=lambda entry: list(BY_NAME).index(entry.op))
        return Result(path, date, machine, content.get("absent", ""), tuple(order))
    except (KeyError, json.JSONDecodeError) as reason:
        raise ValueError(
            f"{path} is no result of this benchmark ({reason!r}). Expected a file that ./run bench "
            "wrote, below bench/results."
        ) from reason


def _add(entries: dict[Key, Entry], benchmark: dict[str, Any]) -> None:
    facts = benchmark["extra_info"]
    entry = Entry(
        facts["op"], facts["source"], tuple(facts["shape"]), facts["dtype"], facts["mode"], {}
    )
    entry = entries.setdefault(entry.key, entry)
    entry.rows[facts["contender"]] = Row(
        facts["contender"],
        facts["status"],
        statistics.median(benchmark["stats"]["data"]),
        facts["error"],
        {name: Ratio(*ratio) for name, ratio in facts["against"].items()},
        facts,
    )


def geometric_mean(values: list[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values))) if values else math.nan
