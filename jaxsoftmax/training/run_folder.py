"""What lies in the folder of a run, and how a new folder is claimed."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import ValidationError

from . import checkpoint
from .errors import InputError
from .schema import Table

CONFIG = "config.json"  # resolved: every default written out; can be trained from again
METRICS = "metrics.jsonl"  # one object an epoch
SUMMARY = "summary.json"
CURVES = "curves.png"
CONFUSION = "confusion.png"
FILES = (CONFIG, METRICS, SUMMARY, CURVES, CONFUSION, checkpoint.ARRAYS, checkpoint.CARD)


class Summary(Table):
    """The contents of ``summary.json``."""

    data_sha256: str
    rows: int
    features: int
    classes: int
    test_rows: int
    test_loss: float
    test_accuracy: float
    test_calibration_error: float
    epochs: int
    compile_seconds: float
    train_seconds: float
    device: str
    versions: dict[str, str]


def claim(folder: Path | None, name: str, *, overwrite: bool) -> Path:
    """Makes the folder of a run, ``runs/NAME-TIME`` unless one is given.

    Raises:
      InputError: it already holds a run and ``overwrite`` is not set.
    """
    if folder is None:
        folder = Path("runs") / time.strftime(f"{name}-%Y%m%d-%H%M%S")
    found = [file for file in FILES if (folder / file).exists()]
    if found and not overwrite:
        raise InputError(
            f"{folder}: already holds a run ({found[0]}); choose another --out or add --overwrite"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in found:
            (folder / file).unlink()
    except OSError as error:
        raise InputError(f"{folder}: cannot be used as a run folder: {error.strerror}") from None
    return folder


def read_summary(folder: Path) -> Summary:
    """Reads ``summary.json``, which is written last: where it is, the run is complete."""
    path = folder / SUMMARY
    try:
        return Summary.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{folder}: holds no finished run ({SUMMARY} is not there)") from None
    except ValidationError as error:
        raise InputError(f"{path}: is damaged: {error.errors()[0]['msg']}") from None
