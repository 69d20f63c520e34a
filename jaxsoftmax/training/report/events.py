"""The course of runs as TensorBoard shows it, written by tensorboardX."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.runs.folder import METRICS

from .comparison import Run

SCALARS = {
    "objective": "objective",
    "gradient": "gradient_norm",
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/validation": "validation_accuracy",
    "l2": "l2",
}


def write(folder: Path, runs: Sequence[Run]) -> None:
    """One log a run, in a folder of its name: a step for each record, and the test at the end.

    Raises:
      InputError: tensorboardX is not installed, or a run has lost its records.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise InputError(
            "--tensorboard needs tensorboardX, which is not installed; "
            "install it with: pip install 'jaxsoftmax[tensorboard]'"
        ) from None
    for run in runs:
        records = _records(run.folder / METRICS)
        with SummaryWriter(logdir=str(folder / run.folder.name)) as writer:
            for step, record in enumerate(records, start=1):
                for tag, name in SCALARS.items():
                    writer.add_scalar(tag, record[name], step)
            writer.add_scalar("loss/test", run.scores.log_loss, len(records))
            writer.add_scalar("accuracy/test", run.scores.accuracy, len(records))


def _records(path: Path) -> list[dict[str, float]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is damaged: {error}") from None
