"""The examples of the README, top to bottom, and the scripts in `examples/`, as users run them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sybil
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.default_modes
def test_readme():
    document = sybil.Sybil([PythonCodeBlockParser()]).parse(README)
    examples = list(document.examples())
    assert examples
    for example in examples:
        example.evaluate()


@pytest.mark.once
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_run_and_are_short(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) < 80
    alone = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, script], env=alone, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
