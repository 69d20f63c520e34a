"""What a user's type checker sees: the signatures as they are written."""

import re
from pathlib import Path

import pytest
from mypy import api

import jaxsoftmax

PROGRAM = """
from typing import assert_type

from jax import Array
from jaxsoftmax import custom_rules, logsumexp, softmax

@custom_rules
def power(x: Array, *, n: int = 2) -> Array:
    return x**n

def use(x: Array, flag: bool) -> None:
    assert_type(power(x, n=3), Array)
    assert_type(power.custom_vjp(x), Array)
    assert_type(logsumexp(x), Array)
    assert_type(logsumexp(x, return_sign=True), tuple[Array, Array])
    assert_type(logsumexp(x, return_sign=flag), Array | tuple[Array, Array])
    assert_type(softmax(x, axis=(0, 1)), Array)
    power(x, m=3)  # call-arg
    power("x", n=3)  # arg-type
    power.custom_vjp(x, n="3")  # arg-type
    softmax(x, axes=1)  # call-arg
    softmax(x, axis="last")  # arg-type
"""


@pytest.mark.once
def test_mypy_strict_sees_signatures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "user.py"
    program.write_text(PROGRAM)
    monkeypatch.setenv("MYPYPATH", str(Path(jaxsoftmax.__file__).parents[1]))
    flags = ["--strict", "--config-file=", f"--cache-dir={tmp_path}"]
    report, errors, _ = api.run([*flags, str(program)])
    assert not errors
    found = re.findall(r"user\.py:(\d+): error:.*\[(.*)\]", report)
    lines = enumerate(PROGRAM.splitlines(), 1)
    assert found == [(str(n), line.split("# ")[1]) for n, line in lines if "  # " in line], report
