"""The installed package: what it offers, what it imports, what it needs."""

import importlib.metadata
import importlib.resources
import json
import subprocess
import sys
import types
from pathlib import Path

import jaxsoftmax

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"
# Of every docstring of a function.
SECTIONS = ("Args:", "Returns:", "Raises:", "Example:")


def loaded_by(statement):
    """The top-level modules that a fresh interpreter has after a statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_import_adds_only_the_package_to_what_jax_imports():
    assert loaded_by("import jax, jaxsoftmax") - loaded_by("import jax") == {"jaxsoftmax"}


def test_what_is_offered_is_told_and_documented():
    offered = {
        name: value
        for name, value in vars(jaxsoftmax).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    told = CHANGELOG.read_text()
    assert [name for name in offered if f"`{name}`" not in told] == []
    assert len(offered) >= 18  # none of those that were ever published is lost
    lacking = {
        name: [section for section in SECTIONS if section not in value.__doc__]
        for name, value in offered.items()
        if isinstance(value, types.FunctionType)
    }
    assert {name: sections for name, sections in lacking.items() if sections} == {}


def test_the_core_requires_jax_alone():
    required = importlib.metadata.requires("jaxsoftmax")
    assert [line for line in required if "extra ==" not in line] == ["jax>=0.10"]


def test_types_are_published():
    assert importlib.resources.files("jaxsoftmax").joinpath("py.typed").is_file()
