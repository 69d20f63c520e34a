"""Checking a function that is named on a command line."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .check import check_rules
from .report import RulesReport

_ARGUMENT = re.compile(
    r"(?P<shape>scalar|\d+(?:x\d+)*)(?::(?P<kind>float|prob|int(?P<below>\d+)))?"
)


def check_from_name(name: str, *arguments: str, seed: int = 0) -> RulesReport:
    """`check_rules` of a function and of random arguments, both given as text.

    Args:
      name: `package.module:function` or `path/to/file.py:function`.
      *arguments: one text for each argument: its shape, such as `4x10` or `scalar`, and what it
        holds: `4x10` or `4x10:float` normal numbers, `4x10:prob` probabilities along the last axis,
        `4:int10` integers from 0 to 9.
      seed: of the arguments and of the directions.

    Returns:
      The report.

    Raises:
      ValueError: if a text cannot be read, or names nothing; the message says what to write.

    Example:
      >>> from jaxsoftmax.testing import check_from_name
      >>> check_from_name("jax.nn:log_softmax", "2x3").ok
      True
    """
    rng = np.random.default_rng(seed)
    function = _function(name)
    return check_rules(function, *(_array(text, rng) for text in arguments), seed=seed)


def _function(name: str) -> Callable[..., Any]:
    place, _, attribute = name.rpartition(":")
    if not place or not attribute:
        raise ValueError(
            f"Expected MODULE:FUNCTION or FILE.py:FUNCTION, got {name!r}. "
            "Write for example jax.nn:softmax."
        )
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    function = getattr(module, attribute, None)
    if not callable(function):
        raise ValueError(f"{place} has no function {attribute!r}. Name one that it defines.")
    return function  # type: ignore[no-any-return]


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"There is no module {error.name!r}. Name an installed module, or a file as FILE.py."
        ) from None


def _file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"There is no file {str(path)!r}. Give its path from here.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _array(text: str, rng: np.random.Generator) -> np.ndarray:
    match = _ARGUMENT.fullmatch(text)
    if match is None:
        raise ValueError(
            f"Expected a shape and what it holds, got {text!r}. "
            "Write for example 4x10, scalar, 4x10:prob or 4:int10."
        )
    shape = () if match["shape"] == "scalar" else tuple(map(int, match["shape"].split("x")))
    if match["below"]:
        return rng.integers(int(match["below"]), size=shape)
    if match["kind"] == "prob":
        return rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])
    return np.asarray(rng.normal(size=shape), np.float32)
