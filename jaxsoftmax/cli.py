"""The command line. Commands only: the work is in `training` and `testing`.

Exit codes: 0 done, 1 the run failed, 2 usage, config or data, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

from jaxsoftmax.training.errors import TrainerError

app = cyclopts.App(
    name="jaxsoftmax",
    help="Softmax in JAX: train a classifier from a config, use it; check and measure rules.",
    suppress_keyboard_interrupt=False,
)
config_app = cyclopts.App(name="config", help="Show, check and describe configs.")
app.command(config_app)

Overrides = Annotated[
    list[str] | None,
    Parameter(
        name="--set",
        negative=(),
        help="Replace one setting, as in --set data.batch_size=64; may be repeated.",
    ),
]


@app.command
def train(
    config: Path,
    *,
    set_: Overrides = None,
    out: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Train a classifier and leave a run folder.

    Args:
      config: A .toml config, or the config.json of an earlier run.
      out: The run folder; runs/<config>-<time> when left out.
      overwrite: Replace the run that --out already holds.
    """
    from rich.console import Console

    from jaxsoftmax.training import config_file, progress, run, run_folder

    settings = config_file.load_config(config, set_ or ())
    console = Console(soft_wrap=True, highlight=False, markup=False)
    dataset, parts = run.prepare(settings)
    folder = run_folder.claim(out, config.stem, overwrite=overwrite)
    console.print(progress.describe(settings, dataset, parts))
    with progress.progress(settings.epochs, console) as on_epoch:
        summary = run.train(settings, dataset, parts, folder, on_epoch)
    console.print(progress.conclude(summary, folder))


@app.command
def evaluate(run_folder: Annotated[Path, Parameter(name="run")]) -> None:
    """Test the model of a run again, on its test rows.

    Args:
      run_folder: The folder that train left.
    """
    from jaxsoftmax.training import progress, run

    test = run.evaluate(run_folder)
    print(progress.scores_line(test.rows, test.loss, test.accuracy))


@app.command
def predict(
    run_folder: Annotated[Path, Parameter(name="run")],
    *,
    input_: Annotated[Path, Parameter(name="--input")],
    output: Path | None = None,
) -> None:
    """Classify rows of features: the class and the probability of every class, as CSV.

    Args:
      run_folder: The folder that train left.
      input_: A .npy matrix (rows x features), or a .csv whose header names the features.
      output: The CSV to write; standard output when left out.
    """
    from jaxsoftmax.training import files, run

    text = run.predict(run_folder, input_)
    if output is None:
        sys.stdout.write(text)
    else:
        files.write_file(output, text.encode())


@app.command
def check(name: str, *shapes: str, seed: int = 0) -> None:
    """Check the hand-written derivative rules of a function, in every mode, on random arguments.

    Args:
      name: MODULE:FUNCTION or FILE.py:FUNCTION, as in jax.nn:softmax.
      shapes: One for each argument: 4x10 or scalar for normal numbers, 4x10:prob for
        probabilities, 4:int10 for integers from 0 to 9.
      seed: Of the arguments and the directions.
    """
    from rich import print as show

    from jaxsoftmax.testing import check_from_name

    with _usage_errors():
        report = check_from_name(name, *shapes, seed=seed)
    show(report)
    if not report.ok:
        sys.exit(1)


@app.command
def bench(
    op: str,
    shape: str,
    dtype: str = "float32",
    *,
    mode: Annotated[list[str] | None, Parameter(negative=())] = None,
    seconds: float = 2.0,
) -> None:
    """Measure an operation against what JAX derives, jax.nn and optax, at a shape of yours.

    Args:
      op: A public name, such as softmax or softmax_cross_entropy_with_integer_labels.
      shape: Rows and classes, as in 4096x1000; rows x features x classes for the linear loss.
      dtype: A floating-point dtype.
      mode: forward, value_and_grad, jvp or hvp; may be repeated.
      seconds: Time to spend on each contender and mode.
    """
    from rich import print as show

    from jaxsoftmax.testing import compare_op

    modes: Any = mode or ("value_and_grad", "jvp")
    with _usage_errors():
        comparison = compare_op(op, shape, dtype, modes, seconds=seconds)
    show(comparison)


@contextlib.contextmanager
def _usage_errors() -> Iterator[None]:
    """What the arguments name does not exist or makes no sense: one line, exit code 2."""
    try:
        yield
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


@config_app.command
def show(config: Path, *, set_: Overrides = None) -> None:
    """Print a config with every default written out, as JSON.

    Args:
      config: A .toml config, or the config.json of an earlier run.
    """
    from jaxsoftmax.training.config_file import load_config

    print(load_config(config, set_ or ()).model_dump_json(indent=2))


@config_app.command(name="check")
def check_config(config: Path, *, set_: Overrides = None) -> None:
    """Say whether a config is valid, listing everything that is wrong with it.

    Args:
      config: A .toml config, or the config.json of an earlier run.
    """
    from jaxsoftmax.training.config_file import load_config

    load_config(config, set_ or ())
    print(f"{config}: valid")


@config_app.command
def schema() -> None:
    """Print the JSON Schema of a config, for editors."""
    import json

    from jaxsoftmax.training.config import RunConfig

    print(json.dumps(RunConfig.model_json_schema(), indent=2))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits with its code."""
    try:
        app(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except TrainerError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a read-only folder
        print(f"{error.filename or 'file system'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)
