"""The Python examples of the README run, top to bottom, as a reader would run them."""

from pathlib import Path

import pytest
import sybil
from sybil.parsers.markdown import PythonCodeBlockParser

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.default_modes
def test_readme():
    document = sybil.Sybil([PythonCodeBlockParser()]).parse(README)
    examples = list(document.examples())
    assert examples
    for example in examples:
        example.evaluate()
