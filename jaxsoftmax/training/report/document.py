"""HTML by a few functions: a page that needs no network, and no script but one that sorts tables.

Text is escaped where it enters; `Html` is what has been.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import NewType

from matplotlib import rc_context
from matplotlib.figure import Figure

Html = NewType("Html", str)
Cell = str | float | int | None | Html

STYLE = """
:root { --ink: #1f2933; --muted: #6b7785; --line: #e4e7eb; --blue: #2563a8; --soft: #f5f7fa; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); margin: 0 auto; max-width: 68rem;
  padding: 2rem 1.5rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p { max-width: 48rem; } .muted, figcaption, .tile span { color: var(--muted); }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.tile { background: var(--soft); border-radius: 8px; padding: .7rem 1rem; min-width: 9.5rem; }
.tile b { display: block; font-size: 1.35rem; font-weight: 600; }
.tile span { display: block; font-size: .8rem; }
.warning { border-left: 4px solid #e07b1a; background: #fdf4ea; padding: .6rem 1rem; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; max-height: 34rem; overflow-y: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top; }
th { position: sticky; top: 0; background: white; color: var(--muted); font-weight: 500; }
th.text, td.text { text-align: left; } th button { all: unset; cursor: pointer; }
th button:focus-visible { outline: 2px solid var(--blue); }
th[aria-sort=ascending] button::after { content: " ↑"; }
th[aria-sort=descending] button::after { content: " ↓"; }
pre { background: var(--soft); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto;
  font-size: .82rem; }
summary { cursor: pointer; color: var(--blue); }
@media print { .scroll { max-height: none; overflow: visible; } }
"""

# A click on a heading sorts by the exact values of that column, numbers as numbers, gaps last.
SCRIPT = """
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement, table = heading.closest("table");
    const up = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = row => row.children[heading.cellIndex].dataset.value;
    const order = (a, b) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      const x = Number(a), y = Number(b);
      const less = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
      return up ? less : -less;
    };
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => order(value(a), value(b)));
    table.tBodies[0].append(...rows);
  });
}
"""


def document(title: str, parts: Iterable[Html]) -> str:
    """A whole page."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + f"\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def text(value: object) -> Html:
    """Words as they are."""
    return Html(html.escape(str(value)))


def paragraph(words: str, kind: str = "") -> Html:
    """A paragraph of plain text, of a class of `STYLE`."""
    return Html(f'<p class="{kind}">{text(words)}</p>' if kind else f"<p>{text(words)}</p>")


def section(title: str, *parts: Html) -> Html:
    """A heading and what is below it."""
    return Html("\n".join([f"<section>\n<h2>{text(title)}</h2>", *parts, "</section>"]))


def tiles(values: Iterable[tuple[str, str, str]]) -> Html:
    """Numbers to see first: what, how much, compared with what."""
    made = (
        f'<div class="tile"><span>{text(name)}</span><b>{text(value)}</b>'
        f"<span>{text(beside)}</span></div>"
        for name, value, beside in values
    )
    return Html(f'<div class="tiles">{"".join(made)}</div>')


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Html:
    """A table that can be sorted; each cell keeps its exact value."""
    rows = [list(row) for row in rows]
    words = [any(isinstance(row[i], str) for row in rows) for i in range(len(headings))]
    kinds = [' class="text"' if is_words else "" for is_words in words]
    head = "".join(
        f"<th{kind}><button>{text(name)}</button></th>"
        for name, kind in zip(headings, kinds, strict=True)
    )
    body = "\n".join(
        "<tr>"
        + "".join(
            f'<td{kind} data-value="{_exact(cell)}">{_shown(cell)}</td>'
            for cell, kind in zip(row, kinds, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return Html(
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def details(title: str, inside: str) -> Html:
    """Text to be unfolded."""
    return Html(f"<details><summary>{text(title)}</summary><pre>{text(inside)}</pre></details>")


def preformatted(words: str) -> Html:
    """Lines as they are on a terminal."""
    return Html(f"<pre>{text(words)}</pre>")


def figure(image: bytes, kind: str, alt: str, width: int | None = None) -> Html:
    """A picture inside the page: the bytes of a `png` or `svg+xml`, and what it says in words."""
    data = base64.b64encode(image).decode()
    size = f' width="{width}"' if width else ""
    return Html(
        f'<figure><img src="data:image/{kind};base64,{data}" alt="{text(alt)}"{size}></figure>'
    )


def svg(drawn: Figure) -> bytes:
    """A figure as SVG, the same bytes each time."""
    out = io.BytesIO()
    with rc_context({"svg.hashsalt": "jaxsoftmax"}):
        drawn.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def number(value: float | None) -> str:
    """Four digits, as people read them."""
    return "–" if value is None else f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _shown(cell: Cell) -> str:
    if isinstance(cell, str):
        return text(cell)
    if isinstance(cell, int):
        return f"{cell:,}"
    return number(cell)


def _exact(cell: Cell) -> str:
    return "" if cell is None else html.escape(str(cell))
