"""What pydantic finds wrong with a config, as lines that name file, table and key."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import ErrorDetails

from .keys import TAGS, Key, RunConfig, holds_table, known_keys

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


def lines(
    errors: Iterable[ErrorDetails], path: Path, overridden: Collection[Key], tree: dict[str, Any]
) -> list[str]:
    """One line a key, ``FILE: [table] key: complaint`` or ``--set table.key: complaint``."""
    by_key: dict[Key, list[ErrorDetails]] = {}
    for error in errors:
        key = _untagged(error["loc"])
        if error["type"].startswith("union_tag"):
            key = (*key, TAGS[key])
        by_key.setdefault(key, []).append(error)
    return [
        f"{_place(key, path, overridden)}: {_complaint(found, key, tree)}"
        for key, found in by_key.items()
    ]


def _place(key: Key, path: Path, overridden: Collection[Key]) -> str:
    bare = tuple(part.split("[")[0] for part in key)
    if not key:  # about several tables together
        return f"{path}"
    if bare in overridden:
        return f"--set {'.'.join(key)}"
    section = f"[{'.'.join(key[:-1])}] " if key[:-1] else ""
    return f"{path}: {section}{key[-1]}"


def _complaint(errors: Sequence[ErrorDetails], key: Key, tree: dict[str, Any]) -> str:
    """What is wrong with a value; with several errors, each is a form that it could have had."""
    if len(errors) > 1:
        wanted = list(dict.fromkeys(map(_expectation, errors)))
        return f"expected {' or '.join(wanted)}, got {_shown(errors[0]['input'])}"
    (error,) = errors
    given, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key{_instead(key[-1], sorted(known_keys(key[:-1], tree)))}"
        case "missing" | "union_tag_not_found":
            return f"is missing; write {key[-1]} = …"
        case "union_tag_invalid":
            return f"unknown '{context['tag']}'{_instead(context['tag'], _quoted(context))}"
        case "literal_error":
            return f"unknown {json.dumps(given)}{_instead(str(given), _quoted(context))}"
        case "value_error":
            return str(context["error"])
        case _:
            return f"expected {_expectation(error)}, got {_shown(given)}"


def _shown(given: Any) -> str:
    return "a table" if isinstance(given, dict) else json.dumps(given, ensure_ascii=False)


def _expectation(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    if error["type"] == "literal_error":
        return " or ".join(json.dumps(choice) for choice in _quoted(context))
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
        elif not _is_leaf(key):  # after a leaf come the forms that a union could have had
            key = (*key, part)
            skip = key in TAGS
    return key


def _is_leaf(key: Key) -> bool:
    """Whether a key holds a value and no table."""
    if not key or key in TAGS:
        return False
    field = RunConfig.model_fields.get(key[0])
    return field is not None and (not holds_table(field.annotation) or len(key) > 1)
