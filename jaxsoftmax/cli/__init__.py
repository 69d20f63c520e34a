"""The command line. Commands only, one file each: the work is in `training` and `testing`.

A command's file is imported when the command is run, so that ``--help`` is quick.

Exit codes: 0 done, 1 the run failed, 2 usage, config or data,
3 a score under --fail-under, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cyclopts

from jaxsoftmax.training.errors import TrainerError

from . import memory

app = cyclopts.App(
    name="jaxsoftmax",
    help="Softmax in JAX: train a classifier from a config, use it; check and measure rules.",
    suppress_keyboard_interrupt=False,
)
COMMANDS = {
    "train": "Train a classifier and leave a run folder.",
    "evaluate": "Repeat the test scores of a run, or score it on other rows.",
    "predict": "Classes and probabilities of new rows.",
    "report": "Compare finished runs on one page.",
    "compare": "Is one of two runs better, on the rows that both were tested on?",
    "sweep": "Train a grid of settings by one compiled program, and the best of them as a run.",
    "export": "Write the model as StableHLO, ONNX, a scikit-learn pipeline or safetensors.",
    "cv": "Train and test on k folds, so that every row is tested once.",
    "init": "Write a commented config for a file of data.",
    "check": "Check the hand-written derivative rules of a function.",
    "env": "What is in use here, and why not: JAX, devices, row kernels, huge pages.",
    "bench": "Measure an operation against what JAX derives, jax.nn and optax.",
}
for name, purpose in COMMANDS.items():
    app.command(f"jaxsoftmax.cli.{name}:{name}", name=name, help=purpose)

config_app = cyclopts.App(name="config", help="Show, check and describe configs.")
for name in ("show", "check", "schema", "reference"):
    config_app.command(f"jaxsoftmax.cli.config:{name}", name=name)
app.command(config_app)

data_app = cyclopts.App(name="data", help="Look at data before training.")
data_app.command("jaxsoftmax.cli.data:describe", name="describe")
app.command(data_app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits with its code."""
    memory.warn()
    if arguments is None:
        _keep_compiled_programs()
    try:
        app(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except TrainerError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except (MemoryError, RuntimeError, ImportError, SystemError, OSError) as error:
        if memory.ended(error):
            print(memory.sentence(), file=sys.stderr)
        elif isinstance(error, OSError):  # a full disk, a read-only folder
            print(f"{error.filename or 'file system'}: {error.strerror or error}", file=sys.stderr)
        else:
            raise
        sys.exit(1)


def _keep_compiled_programs() -> None:
    """A second run of a kind starts at once: its programs lie in the user's cache folder."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(base) / "jaxsoftmax" / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
