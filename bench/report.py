"""What a result says: as Markdown, on the terminal, in the README, and against another result."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from bench.results import OURS, Entry, Result, Row, geometric_mean
from jaxsoftmax.testing.cost.timing import Ratio
from jaxsoftmax.testing.cost.units import count, duration, size

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"

HEADINGS = (
    "case",
    "mode",
    "automatic",
    "custom",
    "best peer",
    "against automatic",
    "against the peer",
    "scratch memory",
    "error",
)

# A README shows the shapes its readers know; the whole table is a link away.
PAGE_SOURCES = ("MNIST", "ImageNet", "GPT-2", "Llama 3")
PAGE_MODES = ("value_and_grad", "jvp")


def summary(result: Result) -> list[str]:
    """The whole in a few sentences, both sides of it."""
    return [
        _sides("the textbook formula under JAX's derivatives", _speeds(result, peer=False)),
        _sides("the fastest other library, case by case", _speeds(result, peer=True)),
        *_wrong(result),
        result.ceilings_sentence(),
        *([result.absent] if result.absent else []),
    ]


def _speeds(result: Result, *, peer: bool) -> list[Ratio]:
    found = []
    for entry in result.entries:
        other = entry.best_peer() if peer else entry.rows.get("automatic")
        speed = entry.speed(other.contender) if other else None
        found += [speed] if speed else []
    return found


def _sides(other: str, speeds: list[Ratio]) -> str:
    if not speeds:
        return f"Nothing was measured against {other}."
    faster = sum(speed.low > 1 for speed in speeds)
    slower = sum(speed.high < 1 for speed in speeds)
    return (
        f"Against {other}: {geometric_mean([s.estimate for s in speeds]):.2f}× as fast in the "
        f"geometric mean of {len(speeds)}; faster in {faster}, slower in {slower}, and in "
        f"{len(speeds) - faster - slower} the 95 % interval holds 1."
    )


def _wrong(result: Result) -> list[str]:
    rows = [
        f"{row.contender} ({entry.title}, {entry.label}, {entry.mode}: {row.error:.1e})"
        for entry in result.entries
        for row in entry.rows.values()
        if row.status == "wrong"
    ]
    return [f"Wrong, and so without a speed: {'; '.join(rows)}."] if rows else []


def cells(entry: Entry) -> tuple[str, ...]:
    """One row of the table."""
    peer = entry.best_peer()
    return (
        entry.label,
        entry.mode,
        _time(entry.rows.get("automatic")),
        _time(entry.rows.get("custom")),
        f"{peer.contender} {duration(peer.seconds)}" if peer else "",
        _speed(entry.speed()),
        _speed(entry.speed(peer.contender)) if peer else "",
        _both(entry, lambda row: size(row.number("temp_bytes"))),
        _both(entry, lambda row: f"{row.error:.0e}"),
    )


def _time(row: Row | None) -> str:
    if row is None:
        return ""
    return duration(row.seconds) if row.right else f"wrong ({row.error:.0e})"


def _speed(speed: Ratio | None) -> str:
    return "" if speed is None else str(speed)


def _both(entry: Entry, show: Callable[[Row], str]) -> str:
    rows = [entry.rows.get(name) for name in ("automatic", "custom")]
    return " → ".join("" if row is None else show(row) for row in rows)


def markdown(result: Result, entries: Sequence[Entry] | None = None) -> str:
    """The table, one part for each op."""
    lines = []
    chosen = result.entries if entries is None else entries
    for title in dict.fromkeys(entry.title for entry in chosen):
        lines += [
            f"**{title}**",
            "",
            _line(HEADINGS),
            _line(["---"] * 2 + ["---:"] * (len(HEADINGS) - 2)),
        ]
        lines += [_line(cells(entry)) for entry in chosen if entry.title == title]
        lines += [""]
    return "\n".join(lines)


def _line(row: Sequence[str]) -> str:
    return f"| {' | '.join(row)} |"


LEGEND = (
    "Times are medians. A speed is the other's time over ours, the median over rounds that time "
    "all contenders in turns, with a 95 % interval: above 1 ours is faster. Scratch memory and "
    "error: automatic → custom; the error is the largest one against float64, relative to the "
    "largest number of the array. Where the value is no scalar, value_and_grad is the product with "
    "the transposed Jacobian."
)


def page(result: Result, pictures: Sequence[Path]) -> str:
    """The report beside the result file."""
    parts = [
        f"# {result.machine_sentence()}",
        *summary(result),
        LEGEND,
        *(f"![{path.stem}]({path.name})" for path in pictures),
        markdown(result),
    ]
    return "\n\n".join(parts).rstrip() + "\n"


def part(result: Result, picture: Path, report: Path, page: Path) -> str:
    """What stands between the marks of the page: the picture and the best known shapes."""
    entries = [
        entry
        for entry in result.entries
        if entry.source in PAGE_SOURCES and entry.mode in PAGE_MODES
    ]
    parts = [
        f"Measured on {result.machine_sentence()}. {' '.join(summary(result))}",
        f"![Speed of the hand-written rules, case by case]({link(picture, page)})",
        markdown(result, entries).rstrip(),
        f"{LEGEND} All cases: [the whole report]({link(report, page)}).",
    ]
    return "\n\n".join(parts)


def link(path: Path, page: Path) -> str:
    """The path as `page` may link to it."""
    return Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix()


def write(page: Path, part: str, begin: str = BEGIN, end: str = END) -> None:
    """Replaces what stands between the marks `begin` and `end`.

    Raises:
      ValueError: the file lacks the marks.
    """
    text = page.read_text(encoding="utf-8")
    before, begins, rest = text.partition(begin)
    _, ends, after = rest.partition(end)
    if not begins or not ends:
        raise ValueError(
            f"{page} must hold the lines {begin} and {end}, between which the table is written."
        )
    page.write_text(f"{before}{begin}\n\n{part}\n\n{end}{after}", encoding="utf-8")


def table(result: Result, width: int) -> Table:
    """The table on a terminal: green where ours is faster, red where slower, by the interval."""
    columns = [0, 1, 2, 3, 4, 5, 6, 7, 8] if width >= 170 else [0, 1, 3, 5, 6]
    shown = Table(box=box.SIMPLE_HEAD, title=result.machine_sentence())
    for column in columns:
        shown.add_column(HEADINGS[column], justify="left" if column < 2 else "right")
    shown.columns[0].no_wrap = True
    last = None
    for entry in result.entries:
        if entry.title != last:
            shown.add_section()
            shown.add_row(f"[bold]{entry.title}")
        last = entry.title
        row = [escape(cell) for cell in cells(entry)]
        peer = entry.best_peer()
        row[5] = _coloured(row[5], entry.speed())
        row[6] = _coloured(row[6], entry.speed(peer.contender) if peer else None)
        shown.add_row(*(row[column] for column in columns))
    return shown


def _coloured(text: str, speed: Ratio | None) -> str:
    if speed is None or speed.low <= 1 <= speed.high:
        return text
    return f"[green]{text}[/]" if speed.low > 1 else f"[red]{text}[/]"


# ------------------------------------------------------------------------------------------------
# What changed between two results
# ------------------------------------------------------------------------------------------------


def changes(old: Result, new: Result) -> list[tuple[str, str, str, str, str]]:
    """Case, contender, what, before and after, of all that differs by more than noise.

    Times of two runs are not comparable, speeds within a run are: a speed has changed when its two
    intervals do not meet. Memory and operations are exact, so any difference counts.
    """
    before = {entry.key: entry for entry in old.entries}
    found = []
    for entry in new.entries:
        if entry.key not in before:
            continue
        for name, row in entry.rows.items():
            was = before[entry.key].rows.get(name)
            if was is None:
                continue
            case = f"{entry.title}, {entry.label}, {entry.mode}"
            found += [(case, name, *change) for change in _row_changes(was, row)]
    return found


def _row_changes(was: Row, now: Row) -> list[tuple[str, str, str]]:
    found = []
    if was.status != now.status:
        found.append(("result", was.status, now.status))
    if now.contender in OURS:
        a, b = was.against.get("automatic"), now.against.get("automatic")
        if a and b and (a.high < b.low or b.high < a.low):
            found.append(("speed against automatic", str(a), str(b)))
    for name, show in (("temp_bytes", size), ("residual_bytes", size), ("flops", count)):
        a, b = was.number(name), now.number(name)
        if a != b:
            found.append((name.replace("_", " "), show(a), show(b)))
    if was.right and now.right and not 0.5 <= (now.error or 1e-300) / (was.error or 1e-300) <= 2:
        found.append(("error", f"{was.error:.1e}", f"{now.error:.1e}"))
    return found


def missing(old: Result, new: Result) -> str:
    """Which cases only one of the two holds, in a sentence."""
    a, b = ({entry.key for entry in result.entries} for result in (old, new))
    return (
        f"{len(a & b)} cases are in both results, {len(a - b)} only in the first, "
        f"{len(b - a)} only in the second."
    )
