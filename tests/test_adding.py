"""The page that adds an operation says all there is to do: its files in a copy are enough."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once
ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding.md").read_text()
FILES = re.findall(r"```\{code-block\} python\n:caption: (\S+)\n\n(.*?)```", PAGE, re.DOTALL)
COPIED = ("jaxsoftmax", "tests", "bench", "pyproject.toml", "CHANGELOG.md")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project with the operation in it: new files, lines at the end of those that exist."""
    folder = tmp_path_factory.mktemp("project")
    for name in COPIED:
        here, there = ROOT / name, folder / name
        if here.is_dir():
            shutil.copytree(here, there, ignore=shutil.ignore_patterns("__pycache__", "results"))
        else:
            shutil.copy(here, there)
    for name, text in (*FILES, ("CHANGELOG.md", "- `gini_impurity`.\n")):
        with (folder / name).open("a") as file:
            file.write(text)
    return folder


def python(folder, *args):
    done = subprocess.run(
        [sys.executable, "-m", *args], cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": "", "PYTHONPATH": str(folder), "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_only_one_file_that_exists_is_touched_and_the_code_is_short():
    assert [name for name, _ in FILES if (ROOT / name).exists()] == ["jaxsoftmax/__init__.py"]
    assert sum(map(lines_of_code, FILES)) < 150


def lines_of_code(file):
    """Without blank lines, comments and docstrings."""
    text = re.sub(r'r?"""(.*?)"""', "", file[1], flags=re.DOTALL)
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in text.split("\n"))


def test_its_own_tests_and_those_of_its_record_pass(copy):
    own = "tests/ops/test_gini_impurity.py", "jaxsoftmax/ops/gini_impurity.py"
    of_records = (
        "tests/test_package.py::test_what_is_offered_is_told_and_documented",
        "tests/test_compare.py::test_all_contenders_of_an_operation_compute_the_same",
        "tests/test_properties.py::test_forward_and_reverse_rules_are_adjoint",
        "tests/test_jit.py::test_a_poisoned_row_leaves_the_others_bit_identical",
        "tests/test_bench.py::test_the_table_has_every_op_and_every_mode_once",
        "tests/test_accuracy.py::test_accuracy_is_as_promised",
    )
    one_at_a_time = "contenders", "promised"
    other = " or ".join(f"({name} and not gini)" for name in one_at_a_time)
    chosen = (*own, *of_records, "-k", f"not ({other})")
    out = python(copy, "pytest", "-q", "-p", "no:cacheprovider", *chosen)
    assert re.search(r"^\d+ passed", out, re.MULTILINE)


def test_it_is_measured(copy):
    out = python(copy, "jaxsoftmax", "bench", "gini_impurity", "8x10", "--mode", "jvp")
    assert "custom" in out
