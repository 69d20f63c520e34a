"""Nothing that is read can run: no pickle, eval, exec, shell or class named by a file."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxsoftmax
from jaxsoftmax.training.runs import checkpoints
from tests.faults import scene

pytestmark = pytest.mark.once

PACKAGE = Path(jaxsoftmax.__file__).parent
MODULES = {
    "pickle", "cPickle", "_pickle", "joblib", "dill", "cloudpickle", "marshal", "shelve", "yaml",
    "subprocess", "pty", "code", "codeop", "runpy", "socket", "ctypes",
}  # fmt: skip
CALLS = {"eval", "exec", "compile", "__import__", "system", "popen", "import_module", "execv"}
# `check` and `bench` import the function whose name is typed, and compile programs of JAX.
TYPED = {"import_module", "compile"}
HARMLESS = {"re.compile", "pc.compile", "platform.system"}
# One of this package's own modules by the format asked for; a pickle that is written, never read;
# the compiler, and the library that it makes of this package's own sources.
KNOWN = {
    "training/export/__init__.py": "import_module",
    "training/export/pipeline.py": "joblib",
    "native/build.py": "subprocess",
    "native/library.py": "ctypes",
}


def offences(tree):
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found = {alias.name.split(".")[0] for alias in names} & MODULES
            case ast.ImportFrom(module=str(module), level=0):
                found = {module.split(".")[0]} & MODULES
            case ast.Call(func=ast.Name(id=name)):
                found = {name} & CALLS
            case ast.Call(func=ast.Attribute(attr=name) as function, args=_, keywords=options):
                found = set() if ast.unparse(function) in HARMLESS else {name} & CALLS
                if ast.unparse(function) in ("np.load", "numpy.load"):
                    told = {option.arg: ast.unparse(option.value) for option in options}
                    found |= {"np.load"} if told.get("allow_pickle") != "False" else set()
            case ast.keyword(arg="shell" | "allow_pickle", value=ast.Constant(value=True)):
                found = {"shell=True or allow_pickle=True"}
            case _:
                found = set()
        for name in found:
            yield f"line {node.lineno}: {name}"


def test_the_sources_have_no_way_to_run_what_they_read():
    found = [
        f"{path.relative_to(PACKAGE)}, {offence}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for offence in offences(ast.parse(path.read_text()))
        if path.relative_to(PACKAGE).parts[0] != "testing" or offence.split(": ")[1] not in TYPED
        if KNOWN.get(path.relative_to(PACKAGE).as_posix()) != offence.split(": ")[1]
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "os.system('ls')",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "run(command, shell=True)",
        "importlib.import_module(name)",
    ],
)
def test_the_reader_of_sources_finds_what_it_looks_for(text):
    assert list(offences(ast.parse(text)))


WATCHED = """
import sys
from pathlib import Path
from jaxsoftmax.training import evaluation, load
from jaxsoftmax.training.runs import checkpoints
from jaxsoftmax.training.runs.folder import read_summary

def read():
    run = Path(sys.argv[1])
    read_summary(run), evaluation.config_of(run), load(run)
    assert checkpoints.latest(run, print).card.steps == 7

read()  # modules that are imported late are imported, and that runs their code
events = []
FORBIDDEN = ("pickle.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork",
             "socket.", "exec", "compile", "import", "ctypes.")
sys.addaudithook(lambda event, _: events.append(event) if event.startswith(FORBIDDEN) else None)
read()
print(sorted(set(events)))
"""


@pytest.mark.default_modes
def test_reading_a_run_runs_nothing_starts_nothing_and_connects_to_nothing(tmp_path):

    made = scene.make(tmp_path)

    checkpoints.save(made.finished, 7, made.states[7], keep=1)
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(made.finished)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
