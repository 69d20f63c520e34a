"""How a run tells what it does: a live bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.runs.folder import Summary
from jaxsoftmax.training.runs.state import Record
from jaxsoftmax.training.solvers import Status
from jaxsoftmax.training.solvers.optimizers import FirstOrder

from .scores import Scores

PLAIN_LINES = 10  # all epochs are in metrics.jsonl


@contextmanager
def progress(config: RunConfig, console: Console) -> Iterator[Callable[[Record], None]]:
    """Yields a function to call with each record."""
    solver = config.solver
    epochs = solver.epochs if isinstance(solver, FirstOrder) else None
    if not console.is_terminal:
        yield lambda record: _plain(record, epochs, console)
        return
    bar = Progress(
        TextColumn("{task.fields[what]}"),
        MofNCompleteColumn(),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[scores]}"),
        console=console,
    )
    with bar:
        task = bar.add_task("epochs", total=epochs, scores="compiling", what="epoch")

        def show(record: Record) -> None:
            what = "epoch" if epochs else f"l2 {record.l2:.1e}  step"
            bar.update(task, completed=record.epoch, scores=_short(record), what=what)

        yield show


def _plain(record: Record, epochs: int | None, console: Console) -> None:
    if epochs is None:
        console.print(f"l2 {record.l2:8.2e}  step {record.epoch:3}  {_scores(record)}")
        return
    every = max(1, epochs // PLAIN_LINES)
    if record.epoch == 1 or record.epoch % every == 0 or record.epoch == epochs:
        number = f"{record.epoch}".rjust(len(str(epochs)))
        console.print(f"epoch {number}/{epochs}  {_scores(record)}")


def _scores(record: Record) -> str:
    return (
        f"train loss {record.train_loss:.4f} accuracy {record.train_accuracy:.4f}  "
        f"validation loss {record.validation_loss:.4f} accuracy {record.validation_accuracy:.4f}"
    )


def _short(record: Record) -> str:
    """With the bar, this fits a line of 80 characters."""
    return f"train {record.train_loss:.4f}  validation {record.validation_loss:.4f}"


def solver_line(config: RunConfig) -> str:
    """What is about to be done, in one line."""
    solver = config.solver
    if isinstance(solver, FirstOrder):
        length = f"{solver.epochs} epochs, {solver.batch_size or 'all'} rows a step"
    else:
        length = f"to a gradient of {solver.tolerance:g}"
    l2 = "chosen" if config.model.l2 == "auto" else f"{config.model.l2:g}"
    return f"solver  {solver.name}, {length}, l2 {l2}, seed {config.seed}"


def converged(config: RunConfig, summary: Summary) -> bool:
    """Whether the solver came as far as it was asked to: to its tolerance, or to the last epoch."""
    status = Status[summary.status.upper()]
    through = status == Status.ITERATION_LIMIT and isinstance(config.solver, FirstOrder)
    return status in (Status.CONVERGED, Status.STOPPED_EARLY) or through


def ending(config: RunConfig, summary: Summary) -> str:
    """Why the solver stopped."""
    status = Status[summary.status.upper()]
    through = status == Status.ITERATION_LIMIT and converged(config, summary)
    return "after all epochs" if through else status.sentence()


def conclude(config: RunConfig, summary: Summary, scores: Scores, folder: Path) -> str:
    """How it went."""
    told = f"{summary.iterations} steps, gradient {summary.gradient_norm:.1e}, l2 {summary.l2:.3g}"
    ended = ending(config, summary)
    how = f"{ended}: {told}" if ended == "converged" else f"{told}, {ended}"
    seconds = f"{summary.compile_seconds:.2f} s compiling, {summary.train_seconds:.2f} s training"
    lines = [f"time    {seconds}", f"solver  {how}", scores_lines(scores), f"saved   {folder}"]
    return "\n".join(lines)


def scores_lines(scores: Scores, name: str = "test") -> str:
    """The scores of a part beside those of the baseline; training and evaluation print the same."""
    low, high = scores.intervals["accuracy"]
    return (
        f"{name:7} accuracy {scores.accuracy:.4f} ({low:.4f} to {high:.4f}), "
        f"loss {scores.log_loss:.6f}, balanced accuracy {scores.balanced_accuracy:.4f} "
        f"on {scores.rows} rows\n"
        f"        always '{scores.baseline.label}': accuracy {scores.baseline.accuracy:.4f}; "
        f"class frequencies: loss {scores.baseline.log_loss:.6f}"
    )
