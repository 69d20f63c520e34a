"""``jaxsoftmax train``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .arguments import Overrides, usage


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
    from rich.console import Console

    from jaxsoftmax.training.config import load_config
    from jaxsoftmax.training.config.file import from_tree
    from jaxsoftmax.training.files import expand

    if resume is None:
        if config is None:
            usage("train: needs a config, or --resume RUN")
        if allow_change:
            usage("--allow-change: is for runs that go on, with --resume RUN")
        settings = load_config(config, set_ or ())
        name = config.stem
        expand(settings.data.paths)  # a wrong path is told before anything heavy is imported
    elif out is not None or overwrite:
        usage("--resume: a run goes on where it is; leave out --out and --overwrite")

    from jaxsoftmax.training import data, trainer
    from jaxsoftmax.training.report import progress
    from jaxsoftmax.training.report.describe import describe
    from jaxsoftmax.training.report.scores import Scores
    from jaxsoftmax.training.runs import checkpoints, folder, signals
    from jaxsoftmax.training.runs import resume as going_on

    console = Console(soft_wrap=True, highlight=False, markup=False)

    def warn(message: str) -> None:
        print(f"warning: {message}", file=sys.stderr)

    with contextlib.ExitStack() as held:
        if resume is None:
            checkpoint = None
            dataset = data.prepare(settings)
            claim = held.enter_context(folder.claim(out, name, overwrite=overwrite))
        else:
            claim = held.enter_context(folder.claim_again(resume))
            checkpoint = checkpoints.latest(claim.folder, warn)
            if config is None:
                tree = checkpoint.card.config.model_dump(mode="json")
                settings = from_tree(tree, checkpoint.path / checkpoints.CARD, set_ or ())
            else:
                settings = load_config(config, set_ or ())
            allowed = [name for text in allow_change or () for name in text.split(",")]
            going_on.check_names(allowed, settings)
            dataset = data.prepare(settings)
            going_on.check(checkpoint, settings, dataset, allowed)
        console.print(describe(dataset))
        console.print(progress.solver_line(settings))
        if checkpoint is not None:
            console.print(f"resumed {checkpoint.path}: after {checkpoint.card.steps} steps")
        asked = held.enter_context(signals.noted(lambda text: print(text, file=sys.stderr)))
        with progress.progress(settings, console) as on_record:
            summary = trainer.train(
                settings, dataset, claim.folder, on_record, checkpoint=checkpoint, asked=asked
            )
        target = claim.publish()
    scores = Scores.model_validate_json((target / folder.SCORES).read_bytes())
    console.print(progress.conclude(settings, summary, scores, target))
