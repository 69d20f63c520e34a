"""``jaxsoftmax sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .arguments import Overrides


def sweep(
    config: Path,
    *,
    grid: Annotated[list[str] | None, Parameter(negative=())] = None,
    set_: Overrides = None,
    out: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Train a grid of settings by one compiled program, and the best of them as a run.

    Args:
      config: A .toml config, with or without a [sweep].
      grid: KEY=VALUE,VALUE, a line of [sweep], as in --grid l2=1e-4,1e-3 --grid seed=0,1,2; may be
        repeated.
      out: The folder of the best run, with sweep.csv and sweep.png; runs/CONFIG-TIME when left out.
      overwrite: Replace the run that --out already holds, once the new one is complete.
    """
    from rich.console import Console

    from jaxsoftmax.training.config.file import load_sweep
    from jaxsoftmax.training.files import expand

    base, axes = load_sweep(config, set_ or (), grid or ())
    expand([*base.data.paths, *axes.path])

    from jaxsoftmax.training import data, trainer
    from jaxsoftmax.training import sweep as sweeps
    from jaxsoftmax.training.report import progress
    from jaxsoftmax.training.report import sweeps as told
    from jaxsoftmax.training.report.scores import Scores
    from jaxsoftmax.training.runs import folder

    console = Console(soft_wrap=True, highlight=False, markup=False)
    with folder.claim(out, config.stem, overwrite=overwrite) as claim:
        found = sweeps.sweep(
            base,
            axes,
            lambda dataset, runs: console.print(f"sweep   {dataset.origin}: {runs} runs"),
        )
        told.save(claim.folder, found, axes.by, folder.OF_SWEEPS)
        console.print(told.lines(found, axes.by))
        console.print(progress.solver_line(found.config))
        summary = trainer.train(found.config, data.prepare(found.config), claim.folder)
        target = claim.publish()
    scores = Scores.model_validate_json((target / folder.SCORES).read_bytes())
    console.print(progress.conclude(found.config, summary, scores, target))
