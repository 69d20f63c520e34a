"""What the accuracy table says: as Markdown, and on the page of figures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from bench import report, truth
from jaxsoftmax.testing.operations import named
from jaxsoftmax.testing.operations.record import Operation

KINDS = ("value", "vjp", "jvp", "hvp", "gradient")

BEGIN, END = "<!-- accuracy:begin -->", "<!-- accuracy:end -->"
COLUMNS = {
    "value, f32": ("float32", "value"),
    "VJP, f32": ("float32", "vjp"),
    "Hessian-vector, f32": ("float32", "hvp"),
    "VJP, bf16": ("bfloat16", "vjp"),
}


def worst(records: list[dict[str, Any]], library: str, op: str, dtype: str) -> dict[str, float]:
    """The worst error of each kind over the distributions; none of a type that is not taken."""
    chosen = [
        r["errors"] for r in records if (r["library"], r["op"], r["dtype"]) == (library, op, dtype)
    ]
    return {kind: max(e[kind] for e in chosen) for kind in chosen[0]} if chosen else {}


def missed(records: list[dict[str, Any]]) -> list[str]:
    """A line for each promise that this library does not keep."""
    return [
        f"{r['op']} {r['dtype']} at {r['distribution']}: {what} {error:.3g}, promised {promise:g}"
        for r in records
        if r["library"] == "jaxsoftmax"
        for what, error, promise in truth.missed(named(r["op"]), jnp.dtype(r["dtype"]), r["errors"])
    ]


def markdown(records: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """The report."""
    lines = [
        "# Accuracy",
        "",
        "Written by `python -m bench.accuracy`. The largest error over ten kinds of logits:",
        ", ".join(truth.DISTRIBUTIONS) + ".",
        "",
        f"Processor: {about['processor']}; JAX {about['jax']}, optax {about['optax']}.",
        f"The truth: {about['reference']}, at every entry.",
        "",
        "- value: units in the last place (of the dtype of the result).",
        "- VJP, JVP, HVP: error over the largest Σⱼ |Jᵢⱼ||vⱼ| of the row, in eps.",
        "- HVP is the derivative of the VJP along a random direction.",
        "- p − e_y: relative error of the worst element, label entry included, in eps.",
        "- Losses of half types are returned, and so measured, in float32; optax and PyTorch",
        "  return the dtype of the logits.",
        "- Below the smallest normal number any result as small counts as right.",
    ]
    dtypes = list(dict.fromkeys(r["dtype"] for r in records))
    for dtype in dtypes:
        lines += ["", f"## {dtype}", ""]
        lines += ["| op | library | value | VJP | JVP | HVP | p − e_y |", "|---|---|" + "--:|" * 5]
        lines += list(_rows(records, dtype))
    misses = missed(records)
    lines += ["", "## Promises not kept", "", *(f"- {line}" for line in misses or ["none"])]
    return "\n".join(lines) + "\n"


def _rows(records: list[dict[str, Any]], dtype: str) -> Iterator[str]:
    for op, libraries in _measured(records).items():
        for library in libraries:
            found = worst(records, library, op.name, dtype)
            cells = (_cell(found.get(kind)) for kind in KINDS)
            yield f"| {op.title} | {library} | " + " | ".join(cells) + " |"
        promise = (_cell(value) for value in truth.promised(op, jnp.dtype(dtype)))
        yield f"| {op.title} | *promised* | " + " | ".join(promise) + " |"


def _measured(records: list[dict[str, Any]]) -> dict[Operation, list[str]]:
    """The operations of a result, each with the libraries that have it."""
    pairs = dict.fromkeys((record["op"], record["library"]) for record in records)
    found: dict[Operation, list[str]] = {}
    for op, library in pairs:
        found.setdefault(named(op), []).append(library)
    return found


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return "all" if value == float("inf") else f"{value:.2g}"


# ------------------------------------------------------------------------------------------------
# On the page of figures
# ------------------------------------------------------------------------------------------------


def table(path: Path, link: str) -> str:
    """A result's worst errors in float32 and bfloat16; `link` is where all of them stand."""
    result = json.loads(path.read_text(encoding="utf-8"))
    records, about = result["records"], result["environment"]
    lines = [
        f"| largest error | {' | '.join(COLUMNS)} |",
        "|---|" + "--:|" * len(COLUMNS),
    ]
    for op, libraries in _measured(records).items():
        for library in libraries:
            ours = library == "jaxsoftmax"
            found = [worst(records, library, op.name, d).get(kind) for d, kind in COLUMNS.values()]
            cells = (f"**{_short(error)}**" if ours else _short(error) for error in found)
            name = f"{op.title}, {'here' if ours else library}"
            lines.append(f"| {name} | {' | '.join(cells)} |")
    broken = missed(records)
    kept = "All promises are kept." if not broken else f"Not kept: {'; '.join(broken)}."
    legend = (
        "Values in units in the last place, derivatives in eps of the dtype: the worst of "
        f"{len(truth.DISTRIBUTIONS)} distributions of logits (confident, tied, far from 0, 100,000 "
        f"classes, …) against mpmath, on {about['processor']} with JAX {about['jax']}. {kept} "
        f"`./run bench accuracy` prints this for four dtypes; [the results]({link}) are kept here."
    )
    return "\n".join([*lines, "", legend])


def _short(error: float | None) -> str:
    if error is None or not 100 <= error < math.inf:
        return _cell(error)
    return f"{error:.0f}" if error < 1e4 else f"{error:.0e}".replace("e+0", "e")


def write(path: Path, page: Path) -> None:
    """Writes a result's table onto a page, between its marks."""
    part = table(path, report.link(path.with_suffix(".md"), page))
    report.write(page, part, BEGIN, END)
