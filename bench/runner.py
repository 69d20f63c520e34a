"""pytest, run for its benchmarks, with a progress bar instead of its dots."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

FOLDER = Path(__file__).parent


def run(path: Path, size: str, only: str | None, console: Console) -> int:
    """Measures, and writes the result to `path`; returns an exit code."""
    os.environ.setdefault("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    arguments = [
        "-c",
        str(FOLDER / "pytest.toml"),
        str(FOLDER),
        *("-p", "pytest_benchmark.plugin"),
        *("-p", "no:terminal"),
        *("-W", "ignore::pytest_benchmark.logger.PytestBenchmarkWarning"),
        f"--size={size}",
        f"--benchmark-json={path}",
        "--benchmark-quiet",
        *(("-k", only) if only else ()),
    ]
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        watcher = _Watcher(bar)
        code = pytest.main(arguments, plugins=[watcher])
    for failure in watcher.failures:
        console.print(failure, markup=False)
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise ValueError(f"No case has {only!r} in its name.")
    return int(code)


class _Watcher:
    """Tells the bar what is measured, and keeps what went wrong."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.task = bar.add_task("looking for cases", total=None)
        self.words = ""
        self.failures: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.bar.update(self.task, total=len(session.items))

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        words = location[2].partition("[")[2].rstrip("]").rpartition(" ")[0]
        if words != self.words and not self.bar.console.is_terminal:
            self.bar.console.print(words)  # a file shows no bar
        self.words = words
        self.bar.update(self.task, description=words)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            self.bar.advance(self.task)
        if report.failed:
            self.failures.append(f"{report.nodeid}\n{report.longreprtext}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failures.append(report.longreprtext)
