"""What pydantic finds wrong with a config, as lines that name file, table and key."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from pydantic_core import ErrorDetails

from .keys import TAGS, Key, known_keys

_KINDS = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "path_type": "a path",
    "finite_number": "a finite number",
    "tuple_type": "an array",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_BOUNDS = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}


def line(error: ErrorDetails, path: Path, overridden: Collection[Key], tree: dict[str, Any]) -> str:
    """One error as one line, ``FILE: [table] key: complaint`` or ``--set table.key: complaint``."""
    key = _untagged(error["loc"])
    if error["type"].startswith("union_tag"):
        key = (*key, TAGS[key])
    if not key:  # about several tables together
        place = f"{path}"
    elif key in overridden:
        place = f"--set {'.'.join(key)}"
    else:
        section = f"[{'.'.join(key[:-1])}] " if key[:-1] else ""
        place = f"{path}: {section}{key[-1]}"
    return f"{place}: {_complaint(error, key, tree)}"


def _complaint(error: ErrorDetails, key: Key, tree: dict[str, Any]) -> str:
    given, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key{_instead(key[-1], sorted(known_keys(key[:-1], tree)))}"
        case "missing" | "union_tag_not_found":
            return "is missing"
        case "union_tag_invalid":
            return f"unknown '{context['tag']}'{_instead(context['tag'], _quoted(context))}"
        case "literal_error":
            return f"unknown {json.dumps(given)}{_instead(str(given), _quoted(context))}"
        case "value_error":
            return str(context["error"])
        case _:
            got = "a table" if isinstance(given, dict) else json.dumps(given)
            return f"expected {_expectation(error)}, got {got}"


def _expectation(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    for name, words in _BOUNDS.items():
        if name in context:
            return f"a number {words} {context[name]:g}"
    return _KINDS.get(error["type"], f"otherwise ({error['msg']})")


def _quoted(context: dict[str, Any]) -> list[str]:
    """The choices that pydantic lists as ``'a', 'b' or 'c'``."""
    return re.findall(r"'([^']*)'", context.get("expected_tags", context.get("expected", "")))


def _instead(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; choose one of {', '.join(choices)}" if choices else ""


def _untagged(location: Iterable[int | str]) -> Key:
    """The key as written: pydantic adds the tag of a union, and the index into an array, to it."""
    key: Key = ()
    skip = False
    for part in location:
        if isinstance(part, int):
            key = (*key[:-1], f"{key[-1]}[{part}]")
        elif skip:
            skip = False
        else:
            key = (*key, part)
            skip = key in TAGS
    return key
