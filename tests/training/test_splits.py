"""Splits: who trains, who tests, and who never changes sides."""

import numpy as np
import pyarrow as pa
import pytest

from jaxsoftmax.training.config.keys import Split
from jaxsoftmax.training.data import splits
from jaxsoftmax.training.errors import InputError

pytestmark = pytest.mark.once

SPLIT = Split(train=0.5, validation=0.2, test=0.3)


def labels(*counts):
    return np.repeat(np.arange(len(counts)), counts).astype(np.int32)


def column(values):
    return pa.chunked_array([pa.array(values)])


def shares(parts):
    return [np.mean(parts == index) for index in range(3)]


def test_ratios_are_those_of_each_class_and_decided_by_the_seed():
    given = labels(40, 20, 10)
    parts, notes = splits.by_ratio(given, "abc", SPLIT, seed=3)
    assert notes == ()
    assert [np.bincount(given[parts == part]).tolist() for part in range(3)] == [
        [20, 10, 5],
        [8, 4, 2],
        [12, 6, 3],
    ]
    assert np.array_equal(splits.by_ratio(given, "abc", SPLIT, seed=3).parts, parts)
    assert not np.array_equal(splits.by_ratio(given, "abc", SPLIT, seed=4).parts, parts)


def test_classes_too_rare_to_split_train_and_others_are_in_all_parts():
    given = labels(30, 2, 3)
    parts, notes = splits.by_ratio(given, ("a", "b", "c"), SPLIT, seed=0)
    assert notes == ("too rare to split, all rows train: 'b'",)
    assert np.all(parts[given == 1] == 0)
    assert sorted(parts[given == 2]) == [0, 1, 2]
    assert splits.check(parts, given, ("a", "b", "c"), "t") == [
        "no validation rows of: 'b'",
        "no test rows of: 'b'",
    ]


def test_few_shots_are_as_many_of_each_class_and_decided_by_the_seed():
    given = labels(40, 20, 10)[np.random.default_rng(0).permutation(70)]
    whole, _ = splits.by_ratio(given, "abc", SPLIT, seed=3)
    parts = splits.few_shots(whole, given, 6, seed=3)
    assert [np.bincount(given[parts == part], minlength=3).tolist() for part in range(3)] == [
        [6, 6, 5],  # the third class has no more
        [8, 4, 2],
        [12, 6, 3],
    ]
    assert np.all(whole[parts == 0] == 0)
    assert np.array_equal(splits.few_shots(whole, given, 6, seed=3), parts)
    other = splits.few_shots(whole, given, 6, seed=4)
    assert not np.array_equal(other, parts)
    more = splits.few_shots(whole, given, 8, seed=3)
    assert set(np.flatnonzero(parts == 0)) < set(np.flatnonzero(more == 0))  # nested


def test_a_column_says_it_in_its_own_words():
    words = ["Train", "val", "dev", "TEST", " training "]
    assert splits.by_column(column(words), "t", "p").parts.tolist() == [0, 1, 1, 2, 0]
    with pytest.raises(InputError, match=r"^t: the column 'p' says 'no'; expected train, valid"):
        splits.by_column(column(["train", "no"]), "t", "p")


def test_groups_stay_together():
    groups = [f"g{n % 37}" for n in range(1000)]
    parts = splits.by_group(column(groups), SPLIT, seed=0).parts
    assert all(len({parts[i] for i in range(n, 1000, 37)}) == 1 for n in range(37))
    assert shares(parts) == pytest.approx([0.5, 0.2, 0.3], abs=0.05)


@pytest.mark.parametrize(
    "values",
    [
        np.arange(100) * 3.5,
        [f"2026-{1 + n // 28:02}-{1 + n % 28:02}" for n in range(100)],
        [f"{n}" for n in range(100)],
        np.arange(100).astype("datetime64[D]"),
        [f"2026-11-{1 + n // 4:02}T{n % 4:02}:30:00Z" for n in range(100)],
        [f"2026/11/{1 + n // 4:02} {n % 4:02}:30:00+02:00" for n in range(100)],
    ],
)
def test_time_puts_the_last_rows_into_the_test_part(values):
    order = np.random.default_rng(0).permutation(100)
    parts = splits.by_time(column(np.array(values)[order]), SPLIT, "t", "when").parts
    expected = np.where(order >= 70, 2, np.where(order >= 50, 1, 0))
    assert np.array_equal(parts, expected)


@pytest.mark.parametrize(
    "values", [["1", "nan", "3"], ["2026-11-26", "", "2026-11-28"], [1.0, np.nan, 3.0]], ids=str
)
def test_a_row_without_a_time_is_not_the_last(values):
    with pytest.raises(InputError, match=r"^t: the column 'when' has no value in 1 rows$"):
        splits.by_time(column(values), SPLIT, "t", "when")


@pytest.mark.parametrize("weights", [np.zeros(4), [0, 0, 1, 1], [1, 1, 0, 0], np.full(4, 3e38)])
def test_weights_whose_sum_means_nothing_are_refused(weights):
    parts = np.array([0, 0, 1, 2], np.int8)
    with pytest.raises(InputError, match=r"^t: the weights of the (train|validation) part sum to "):
        splits.check_weights(parts, np.array(weights, np.float32), "t")
    splits.check_weights(parts, np.array([0, 2, 1, 0], np.float32), "t")


def test_equal_times_stay_together():
    parts = splits.by_time(column([1, 1, 1, 2, 2, 2, 3, 3, 3, 3]), SPLIT, "t", "when").parts
    assert [set(parts[i:j]) for i, j in ((0, 3), (3, 6), (6, 10))] == [{0}, {0}, {1}]


def test_a_hash_keeps_each_row_in_its_part_when_data_grow():
    keys = [f"user-{n}" for n in range(4000)]
    parts = splits.by_hash(column(keys), SPLIT).parts
    later = splits.by_hash(column([*reversed(keys), "new"]), SPLIT).parts
    assert np.array_equal(later[:-1][::-1], parts)
    assert shares(parts) == pytest.approx([0.5, 0.2, 0.3], abs=0.03)


def test_a_part_without_rows_is_refused():
    with pytest.raises(InputError, match=r"^t: the test part has no rows; see \[split\]$"):
        splits.check(np.array([0, 0, 0, 1], np.int8), labels(1, 3), "ab", "t")
    rare = r"^t: the test part has no rows: a class is split from 3 rows on, and none has so many; "
    with pytest.raises(InputError, match=rare):
        splits.check(np.array([0, 0, 1], np.int8), labels(1, 2), "ab", "t")
    with pytest.raises(InputError, match=r"^t: the train part has rows of one class only"):
        splits.check(np.array([0, 1, 2], np.int8), labels(1, 2), "ab", "t")
