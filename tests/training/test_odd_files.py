"""Every odd file is read as it was meant, or refused in a sentence; none is misunderstood."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tests.training.odd_files import CASES, complaint, csv, prepared

pytestmark = pytest.mark.once


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_odd_file(case, tmp_path):
    assert complaint(case, tmp_path) == ""


@st.composite
def tables(draw):
    """Numbers, text, one word and a class, and their text in a way that some program writes."""
    rows, random = draw(st.integers(12, 60)), np.random.default_rng(draw(st.integers(0, 999)))
    delimiter, quote = draw(st.sampled_from(",;\t|")), draw(st.sampled_from(["", '"', "'"]))
    quoted = bool(quote) and draw(st.booleans())  # numbers too
    decimal = draw(st.sampled_from(",.")) if delimiter != "," or quoted else "."
    inside = delimiter if quote else " "
    table = {
        "a": random.normal(size=rows).round(4),
        "b": random.integers(-50, 50, rows) / 4,
        "c": np.array([f"x{inside}1", "y"])[random.permutation(rows) % 2],
        "one": np.full(rows, "word"),
        "y": np.array(["cat", "dog"])[random.permutation(rows) % 2],
    }
    mark = quote if quoted else ""
    fields = {
        name: [f"{mark}{value}{mark}".replace(".", decimal) for value in column]
        if column.dtype.kind == "f"
        else [f"{quote}{value}{quote}" for value in column]
        for name, column in ((name, table[name]) for name in draw(st.permutations(list(table))))
    }
    names = draw(st.sampled_from(["", quote]))
    text = csv(
        {f"{names}{name}{names}": column for name, column in fields.items()},
        delimiter=delimiter,
        end=draw(st.sampled_from(["\n", "\r\n"])),
    )
    return table, draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text


@settings(max_examples=60)
@given(tables())
def test_a_table_as_any_program_writes_it(tmp_path_factory, case):
    table, text = case
    path = tmp_path_factory.mktemp("drawn") / "t.csv"
    path.write_bytes(text)
    dataset = prepared(path)
    assert dataset.dropped == {"one": "all rows have one value"}
    assert dataset.classes == ("cat", "dog")
    assert (np.array(dataset.classes)[dataset.labels] == table["y"][dataset.rows]).all()
    features = dict(zip(dataset.columns.features, dataset.features.T, strict=True))
    words = sorted(set(table["c"]))
    assert sorted(features) == sorted(["a", "b", *(f"c={word}" for word in words)])
    for word in words:
        assert (features[f"c={word}"] == (table["c"][dataset.rows] == word)).all()
    for column in dataset.columns.columns:
        if column.kind == "number":
            values = features[column.name] * column.scale + column.mean
            assert values == pytest.approx(table[column.name][dataset.rows], rel=1e-5, abs=1e-5)
