"""``jaxsoftmax train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .arguments import Overrides


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
      out: The run folder; runs/CONFIG-TIME when left out.
      overwrite: Replace the run that --out already holds, once the new one is complete.
    """
    from rich.console import Console

    from jaxsoftmax.training.config import load_config
    from jaxsoftmax.training.files import expand

    settings = load_config(config, set_ or ())
    expand(settings.data.paths)  # a wrong path is told before anything heavy is imported

    from jaxsoftmax.training import data, trainer
    from jaxsoftmax.training.report import progress
    from jaxsoftmax.training.report.describe import describe
    from jaxsoftmax.training.report.scores import Scores
    from jaxsoftmax.training.runs import folder

    console = Console(soft_wrap=True, highlight=False, markup=False)
    dataset = data.prepare(settings)
    claim = folder.claim(out, config.stem, overwrite=overwrite)
    console.print(describe(dataset))
    console.print(progress.solver_line(settings))
    with progress.progress(settings, console) as on_record:
        summary = trainer.train(settings, dataset, claim.folder, on_record)
    target = claim.publish()
    scores = Scores.model_validate_json((target / folder.SCORES).read_bytes())
    console.print(progress.conclude(settings, summary, scores, target))
