"""A commented config for a file, to start from."""

from __future__ import annotations

import json
import os
from pathlib import Path


def example(file: Path, label: str | int | None, folder: Path) -> str:
    """The text of a config that lies in ``folder`` and trains on ``file``."""
    path = os.path.relpath(file.expanduser().absolute(), folder.absolute())
    chosen = "…" if label is None else label
    return f"""\
# jaxsoftmax train THIS-FILE
# All that is commented out is the default; every key is in docs/config.md.

[data]
path = {json.dumps(path, ensure_ascii=False)}
label = {json.dumps(chosen, ensure_ascii=False)} # the column of the class, by name or number
# weights = "column" # how much each row counts

[columns]
# features = ["a", "b", "pixel_*"] # only these; all others when left out
# drop = ["id"]
# categorical = ["zip_code"] # one-hot though they are numbers
# missing = "mean" # or "error", "drop_row"
# standardize = "feature" # or "global" (pixels), "none"
# unit_length = false # true for embeddings

[split]
# train = 0.7
# validation = 0.1
# test = 0.2
# group = "patient" # rows of one group stay together; or time, hash, column

[model]
# l2 = "auto" # or a number
# class_weights = "balanced"

[solver]
name = "newton_cg" # or lbfgs, adam, sgd, … with epochs, batch_size, learning_rate
# tolerance = 1e-5
"""
