"""The encoder: the same features from the same rows, however they come."""

import json

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from jaxsoftmax.training.data import Columns, Table
from jaxsoftmax.training.data.columns import Category, Moments, Number, Vector
from jaxsoftmax.training.data.values import parse

pytestmark = pytest.mark.once

COLUMNS = Columns(
    columns=(
        Number(name="x", mean=2.0, scale=4.0, indicator=True),
        Category(name="c", values=("(missing)", "blue", "red")),
        Vector(name="v", mean=(1.0, 0.0), scale=(1.0, 2.0)),
    ),
    missing_values=("", "NA"),
)
ROWS = {
    "v": [[1.0, 2.0], [3.0, 0.0], [0.0, 0.0]],
    "x": [6.0, None, 2.0],
    "more": [1, 2, 3],
    "c": ["red", "green", None],
}
FEATURES = [
    [1, 0, 0, 0, 1, 0, 1],
    [0, 1, 0, 0, 0, 2, 0],
    [0, 0, 1, 0, 0, -1, 0],
]


def test_rows_become_features_by_name():
    encoded = COLUMNS.encode(Table(pa.table(ROWS), "t"))
    assert encoded.features.tolist() == FEATURES
    assert encoded.unseen == {"c": 1}
    assert not encoded.bad.any()
    assert len(COLUMNS.features) == 7


def test_text_is_read_as_in_training():
    rows = ROWS | {"x": ["6.0", "NA", " 2 "], "c": [" red", "green ", "NA"]}
    assert COLUMNS.encode(Table(pa.table(rows), "t")).features.tolist() == FEATURES


def test_rows_that_cannot_be_read_are_named():
    rows = ROWS | {"x": ["6", "oops", "inf"]}
    encoded = COLUMNS.encode(Table(pa.table(rows), "t", first=10))
    assert encoded.bad.tolist() == [False, True, True]
    assert encoded.complaint == "t: row 11, column 'x': expected a finite number, got 'oops'"


def test_the_encoder_is_json():
    text = COLUMNS.model_dump_json()
    json.loads(text)
    assert Columns.model_validate_json(text) == COLUMNS


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50),
    st.integers(0, 49),
    st.sampled_from([0.0, 1e9, 1e15]),
)
def test_moments_do_not_depend_on_blocks(values, cut, offset):
    rows = np.array(values)[:, np.newaxis] + offset
    whole = Moments.of(1).and_rows(rows)
    parts = Moments.of(1).and_rows(rows[:cut]).and_rows(rows[cut:])
    assert parts.mean == pytest.approx(whole.mean, rel=1e-13)
    spread = float(np.std(rows))
    limit = 1e-7 * spread + 1e-14 * abs(offset) + 1e-9
    assert np.sqrt(parts.squares / parts.rows) == pytest.approx(spread, abs=limit)


@given(st.lists(st.text(max_size=12), min_size=1, max_size=20))
def test_text_is_a_number_exactly_when_it_looks_like_one(words):
    parsed = parse(pa.chunked_array([words], pa.string()), ("", "NA"))
    for word, number, missing, bad in zip(words, *parsed, strict=True):
        assert (missing + bad + np.isfinite(number)) == 1
        if np.isfinite(number):
            assert number == float(word)
            assert "_" not in word


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_is_read_to_its_last_bit(number):
    for text in (repr(number), f" {number!r} ", f"{number:+}"):
        parsed = parse(pa.chunked_array([[text, "NA"]], pa.string()), ("NA",))
        assert parsed.numbers[0] == number
    comma = repr(number).replace(".", ",")
    assert parse(pa.chunked_array([[comma]], pa.string()), (), ",").numbers[0] == number
