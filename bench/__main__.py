"""`./run bench`: runs the benchmark, and works with its results."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import gates, goals, machine, plots, random_cases, report, results, runner

FOLDER = Path(__file__).parent
# A file or a pipe has no width; it gets the whole table.
CONSOLE = Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    commands = {"accuracy": _accuracy, "report": _report, "figures": _figures}
    if argv and argv[0] in commands:
        return commands[argv[0]](argv[1:])
    options = _parser().parse_args(argv)
    try:
        if options.compare:
            return _compare(*options.compare)
        if options.smoke:
            return _smoke()
        if options.goals:
            return goals.main(CONSOLE)
        if options.random:
            return random_cases.main(options.random, options.seed, CONSOLE)
        return _measure("full" if options.full else "quick", options.only)
    except ValueError as reason:
        print(reason, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./run bench",
        description="Where does a hand-written derivative rule pay, and where not?",
        epilog="Further commands, each with --help: accuracy; report RESULT; figures RESULT.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="two minutes; this is the default")
    what.add_argument("--full", action="store_true", help="more and larger cases, longer each")
    what.add_argument("--smoke", action="store_true", help="what CI asks: exact gates, no report")
    what.add_argument(
        "--goals", action="store_true", help="the figures to be reached; eight minutes"
    )
    what.add_argument(
        "--random", type=int, metavar="N", help="N cases that nobody chose, by --seed"
    )
    what.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="what changed between two result files"
    )
    parser.add_argument("--seed", type=int, default=0, help="of --random")
    parser.add_argument(
        "--only", metavar="WORDS", help='cases whose name has these words, as "jvp and GPT"'
    )
    return parser


def _measure(size: str, only: str | None) -> int:
    now = dt.datetime.now().astimezone()
    folder = FOLDER / "results" / machine.name()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{now:%Y-%m-%d-%H%M%S}.json"
    code = runner.run(path, size, only, CONSOLE)
    return code or show(path)


def _smoke() -> int:
    """The gates, and one small case through all of the benchmark, which leaves nothing behind."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "smoke.json")
        return gates.main(CONSOLE) | runner.run(path, "quick", "iris", CONSOLE) or show(path)


def show(path: Path) -> int:
    """The table on the terminal; the report and its pictures beside the file."""
    result = results.load(path)
    pictures = plots.draw(result, path.parent, path.stem)
    page = path.with_suffix(".md")
    page.write_text(report.page(result, pictures), encoding="utf-8")
    CONSOLE.print(report.table(result, CONSOLE.width))
    for sentence in report.summary(result):
        CONSOLE.print(sentence)
    CONSOLE.print("Written: " + ", ".join(_short(each) for each in (path, page, *pictures)))
    return 0


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _compare(old: str, new: str) -> int:
    a, b = results.load(old), results.load(new)
    if a.machine["name"] != b.machine["name"]:
        CONSOLE.print(f"Two machines: {a.machine['name']} and {b.machine['name']}.")
    found = report.changes(a, b)
    CONSOLE.print(report.missing(a, b))
    if not found:
        CONSOLE.print("Nothing changed by more than noise.")
        return 0
    table = Table("case", "contender", "what", "before", "after", box=box.SIMPLE_HEAD)
    for row in found:
        table.add_row(*map(escape, row))
    CONSOLE.print(table)
    return 0


def _report(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./run bench report", description=show.__doc__)
    parser.add_argument("result", type=Path)
    return _said(lambda: show(parser.parse_args(argv).result))


def _figures(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="./run bench figures",
        description="Writes a result's table, of times or of errors, between its two marks.",
    )
    parser.add_argument("result", type=Path)
    parser.add_argument("--page", type=Path, default=FOLDER / "figures.md")
    options = parser.parse_args(argv)

    def write() -> int:
        if options.result.name.startswith("accuracy-"):
            importlib.import_module("bench.accuracy_report").write(options.result, options.page)
            return 0
        path, result = options.result, results.load(options.result)
        picture = path.with_name(f"{path.stem}-ratios.png")
        part = report.part(result, picture, path.with_suffix(".md"), options.page)
        report.write(options.page, part)
        return 0

    return _said(write)


def _said(command: Callable[[], int]) -> int:
    try:
        return command()
    except (OSError, ValueError) as reason:
        print(reason, file=sys.stderr)
        return 2


def _accuracy(argv: Sequence[str]) -> int:
    # Its own dependencies, mpmath among them, are no concern of the other commands.
    code: int | None = importlib.import_module("bench.accuracy").main(argv)
    return code or 0


if __name__ == "__main__":
    sys.exit(main())
