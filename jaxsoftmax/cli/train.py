"""``jaxsoftmax train``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from .arguments import Overrides, usage

if TYPE_CHECKING:
    from jaxsoftmax.training.config import RunConfig


def train(
    config: Path | None = None,
    *,
    set_: Overrides = None,
    out: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    resume: Path | None = None,
    allow_change: Annotated[list[str] | None, Parameter(negative=())] = None,
) -> None:
    """Train a classifier and leave a run folder; or go on with a run that was interrupted.

    Args:
      config: A .toml config, or the config.json of an earlier run; with --resume that of the run,
        unless another is given.
      out: The run folder; runs/CONFIG-TIME when left out.
      overwrite: Replace the run that --out already holds, once the new one is complete.
      resume: The folder of a run that has not ended; it goes on from its newest checkpoint.
      allow_change: With --resume, what may differ from when the run was saved: keys
        (solver.learning_rate), sections (solver), or data; separated by commas.
    """
    if resume is None and config is None:
        usage("train: needs a config, or --resume RUN")
    if resume is None and allow_change:
        usage("--allow-change: is for runs that go on, with --resume RUN")
    if resume is not None and (out is not None or overwrite):
        usage("--resume: a run goes on where it is; leave out --out and --overwrite")

    from rich.console import Console

    from jaxsoftmax.training.files import expand

    settings = _settings(config, resume, set_ or ())
    expand(settings.data.paths)  # a wrong path is told before anything heavy is imported

    from jaxsoftmax.training.runs import processes

    processes.join(settings.distributed.mode)  # before anything makes an array

    from jaxsoftmax.training import trainer
    from jaxsoftmax.training.report import progress
    from jaxsoftmax.training.report.describe import describe
    from jaxsoftmax.training.report.scores import Scores
    from jaxsoftmax.training.runs import checkpoints, folder, sharing, signals
    from jaxsoftmax.training.runs import resume as going_on

    keeps = processes.first()
    console = Console(soft_wrap=True, highlight=False, markup=False, quiet=not keeps)

    def tell(message: str) -> None:
        if keeps:
            print(message, file=sys.stderr)

    with contextlib.ExitStack() as held:
        checkpoint = None
        if resume is not None:
            claim = held.enter_context(folder.claim_again(resume) if keeps else folder.scratch())
            checkpoint = checkpoints.latest(resume, lambda text: tell(f"warning: {text}"))
            processes.check_same(f"{resume}", checkpoint.path.name)
            allowed = [name for text in allow_change or () for name in text.split(",")]
            going_on.check_names(allowed, settings)
        dataset = sharing.prepare(settings, tell)
        if checkpoint is not None:
            going_on.check(checkpoint, settings, dataset, allowed)
        else:
            name = config.stem if config else ""
            claim = held.enter_context(
                folder.claim(out, name, overwrite=overwrite) if keeps else folder.scratch()
            )
        console.print(describe(dataset))
        console.print(progress.solver_line(settings))
        if checkpoint is not None:
            console.print(f"resumed {checkpoint.path}: after {checkpoint.card.steps} steps")
            if others := going_on.other_versions(checkpoint.card):
                tell(f"warning: it was saved with {others}: the last bits may differ")
        asked = held.enter_context(signals.noted(tell))
        with progress.progress(settings, console) as on_record:
            summary = trainer.train(
                settings, dataset, claim.folder, on_record, checkpoint=checkpoint, asked=asked
            )
        target = claim.publish()
        processes.wait()  # the data of all go with the first
    scores = Scores.model_validate_json((target / folder.SCORES).read_bytes())
    console.print(progress.conclude(settings, summary, scores, target))


def _settings(
    config: Path | None, resume: Path | None, overrides: list[str] | tuple[()]
) -> RunConfig:
    """Those of the config, or those that a run was saved with."""
    from jaxsoftmax.training.config import load_config
    from jaxsoftmax.training.config.file import from_tree

    if config is not None or resume is None:
        return load_config(config or Path(), overrides)

    from jaxsoftmax.training.runs import checkpoints, folder

    folder.check_unfinished(resume)
    saved = checkpoints.latest(resume, lambda text: None)  # which is told when it is used
    tree = saved.card.config.model_dump(mode="json")
    return from_tree(tree, saved.path / checkpoints.CARD, overrides)
