"""Whatever the bytes, a reader gives a data set or a sentence, and nothing else."""

import os

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from jaxsoftmax.training.data import Dataset
from jaxsoftmax.training.errors import InputError
from tests.training.odd_files import CASES, prepared

pytestmark = pytest.mark.once

FILES = {
    case.name: (case.content, case.data)
    for case in CASES
    if callable(case.outcome) and len(case.content) < 20_000
}


def outcome(path, more):
    """A data set or a refusal; everything else is a fault of the reader."""
    try:
        dataset = prepared(path, **more)
    except InputError as error:
        told = str(error)
    else:
        assert isinstance(dataset, Dataset)
        return
    assert str(path) in told


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=12)
@given(damage=st.data())
def test_a_damaged_file(name, folder, damage):
    content, more = FILES[name]
    place = damage.draw(st.integers(0, len(content) - 1))
    kind = damage.draw(st.sampled_from(["flip", "cut", "zero", "repeat"]))
    match kind:
        case "flip":
            bit = 1 << damage.draw(st.integers(0, 7))
            content = content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]
        case "cut":
            content = content[:place]
        case "zero":
            content = content[:place] + bytes(min(16, len(content) - place)) + content[place + 16 :]
        case "repeat":
            content = content[:place] + content[place // 2 :]
    path = folder / name
    path.write_bytes(content)
    outcome(path, more)


@given(st.binary(max_size=300), st.sampled_from(["a.csv", "a.npy", "a.npz", "a.parquet", "a"]))
def test_any_bytes(folder, content, name):
    path = folder / name
    path.write_bytes(content)
    outcome(path, {})


@given(
    st.lists(
        st.lists(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6),
            min_size=1,
            max_size=4,
        ),
        max_size=8,
    )
)
def test_any_table_of_text(folder, rows):
    path = folder / "any.csv"
    path.write_text("\n".join(",".join(row) for row in rows), encoding="utf-8")
    outcome(path, {})


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    pipe, features = tmp_path / "pipe", tmp_path / "x.npy"
    os.mkfifo(pipe)
    np.save(features, np.eye(24, dtype=np.float32))
    for path, more in ((pipe, {"label": "y"}), (features, {"labels_path": str(pipe)})):
        with pytest.raises(InputError, match=f"{pipe}: is a pipe or a device, and can be read onl"):
            prepared(path, **more)
