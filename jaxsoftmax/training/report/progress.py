"""How a run tells what it does: a live bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.config.keys import Builtin
from jaxsoftmax.training.data import Dataset
from jaxsoftmax.training.runs.folder import Summary
from jaxsoftmax.training.runs.state import Record

PLAIN_LINES = 10  # all epochs are in metrics.jsonl


@contextmanager
def progress(config: RunConfig, console: Console) -> Iterator[Callable[[Record], None]]:
    """Yields a function to call with each finished epoch."""
    solver = config.solver
    epochs = solver.max_iterations if solver.needs_full_batch else solver.epochs
    if not console.is_terminal:
        yield lambda record: _plain(record, epochs, console)
        return
    bar = Progress(
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[scores]}"),
        console=console,
    )
    with bar:
        task = bar.add_task("epochs", total=epochs, scores="compiling")
        yield lambda record: bar.update(task, completed=record.epoch, scores=_short(record))


def _plain(record: Record, epochs: int, console: Console) -> None:
    every = max(1, epochs // PLAIN_LINES)
    if record.epoch == 1 or record.epoch % every == 0 or record.epoch == epochs:
        number = f"{record.epoch}".rjust(len(str(epochs)))
        console.print(
            f"epoch {number}/{epochs}  {_scores(record)}", highlight=False, soft_wrap=True
        )


def _scores(record: Record) -> str:
    return (
        f"train loss {record.train_loss:.4f} accuracy {record.train_accuracy:.4f}  "
        f"validation loss {record.validation_loss:.4f} accuracy {record.validation_accuracy:.4f}"
    )


def _short(record: Record) -> str:
    """With the bar, this fits a line of 80 characters."""
    return (
        f"train {record.train_loss:.4f}  "
        f"validation {record.validation_loss:.4f} accuracy {record.validation_accuracy:.4f}"
    )


def describe(config: RunConfig, dataset: Dataset) -> str:
    """What is about to be trained on what, in two lines."""
    train, validation, test = (len(dataset.labels[span]) for span in dataset.parts)
    name = config.data.name if isinstance(config.data, Builtin) else config.data.path.name
    solver = config.solver
    length = (
        f"at most {solver.max_iterations} steps"
        if solver.needs_full_batch
        else f"{solver.epochs} epochs, {solver.batch_size or 'all'} rows a step"
    )
    return (
        f"data    {name}: {len(dataset.labels)} rows, {dataset.features.shape[1]} features, "
        f"{len(dataset.classes)} classes; {train} train, {validation} validation, {test} test\n"
        f"solver  {solver.name}, {length}, seed {config.seed}"
    )


def conclude(summary: Summary, folder: Path) -> str:
    """How it went, in three lines."""
    return (
        f"time    {summary.compile_seconds:.2f} s compiling, "
        f"{summary.train_seconds:.2f} s training\n"
        f"{scores_line(summary.test_rows, summary.test_loss, summary.test_accuracy)}\n"
        f"saved   {folder}"
    )


def scores_line(rows: int, loss: float, accuracy: float) -> str:
    """The scores on the test part; training and evaluation print the same line."""
    return f"test    loss {loss:.6f} accuracy {accuracy:.4f} on {rows} rows"
