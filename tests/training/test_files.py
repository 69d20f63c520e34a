"""Readers: what they return, and the sentence that each kind of bad file gets."""

import io

import numpy as np
import pytest

from jaxsoftmax.training.data.readers import (
    read_feature_csv,
    read_labelled_csv,
    read_npy,
    read_npz,
)
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.files import write_file

REAL_ROWS = "expected rows x features of real numbers, got "
DAMAGED = "is damaged or of another kind: "


def complaint(function, path, *arguments):
    with pytest.raises(InputError) as failure:
        function(path, *arguments)
    return str(failure.value).replace(f"{path}", "FILE")


def test_labelled_csv(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbfa,kind,"b, c"\r\n1, 10 ,-2.5e-1\r\n\r\n .5,9,+3\r\n')
    features, labels, names = read_labelled_csv(path, "kind")
    assert names == ("a", "b, c")
    assert features.dtype == np.float32
    assert features.tolist() == [[1.0, -0.25], [0.5, 3.0]]
    assert labels.tolist() == [10, 9]  # integers, so that 9 sorts before 10


def test_labels_that_are_not_all_integers_stay_words(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,kind\n1,1\n1,x\n1,01\n")
    assert read_labelled_csv(path, "kind")[1].tolist() == ["1", "x", "01"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "expected a header and rows, found 0 names, 0 rows"),
        (b"a,y\n", "expected a header and rows, found 2 names, 0 rows"),
        (b"a,a,y\n1,2,3\n", "the header repeats 'a'"),
        (b"a,Y\n1,2\n", "no column is named 'y'; there is 'a', 'Y'"),
        (b"y\n1\n", "'y' is the only column; there are no features"),
        (b"a,y\n1,2\n1,2,3\n", "line 3 has 3 fields, the header has 2"),
        (b"a,y\n1,2\n\n1,\n", "line 4, column 'y': the label is empty"),
        (b"a,y\n,2\n", "line 2, column 'a': expected a finite float32 number, got ''"),
        (b"a,y\nnan,2\n", "line 2, column 'a': expected a finite float32 number, got 'nan'"),
        (b"a,y\n1,2\n1_0,2\n", "line 3, column 'a': expected a finite float32 number, got '1_0'"),
        (b"a,y\n1e39,2\n", "line 2, column 'a': expected a finite float32 number, got '1e39'"),
        (b"a,y\n\xff,2\n", "is not UTF-8 text (byte 4)"),
        (b'a,y\n"1,2\n', DAMAGED + "unexpected end of data"),
    ],
)
def test_bad_csv(tmp_path, content, sentence):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    assert complaint(read_labelled_csv, path, "y") == f"FILE: {sentence}"


def test_feature_csv_finds_columns_by_name(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("b,label,a\n2,x,1\n")
    assert read_feature_csv(path, ["a", "b"]).tolist() == [[1.0, 2.0]]
    assert complaint(read_feature_csv, path, ["a", "c", "d"]) == (
        "FILE: the model was trained with a column 'c' and 1 more, which the header lacks"
    )


def test_npy(tmp_path):
    path = tmp_path / "f.npy"
    np.save(path, np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)))
    features = read_npy(path, 3)
    assert features.dtype == np.float32
    assert features.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert complaint(read_npy, path, 4) == (
        "FILE: the model was trained with 4 features, the rows have 3"
    )


def _npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (_npy(np.zeros(3)), REAL_ROWS + "shape (3,) of float64"),
        (_npy(np.zeros((2, 3), complex)), REAL_ROWS + "shape (2, 3) of complex128"),
        (_npy(np.zeros((0, 3))), REAL_ROWS + "shape (0, 3) of float64"),
        (
            _npy(np.array([[1.0, 2.0], [np.nan, 1e99]])),
            "row 1, column 0: nan is not a finite float32 number (2 such in all)",
        ),
        (
            _npy(np.array([[{}]]), allow_pickle=True),
            DAMAGED + "Object arrays cannot be loaded when allow_pickle=False",
        ),
        (b"", DAMAGED + "No data left in file"),
    ],
)
def test_bad_npy(tmp_path, content, sentence):
    path = tmp_path / "f.npy"
    path.write_bytes(content)
    assert complaint(read_npy, path, 3) == f"FILE: {sentence}"


def test_npz(tmp_path):
    path = tmp_path / "f.npz"
    np.savez(path, x=np.ones((2, 3)), y=np.array(["b", "a"]), z=np.ones(2), w=np.ones(3, int))
    features, labels = read_npz(path, "x", "y")
    assert features.tolist() == [[1, 1, 1], [1, 1, 1]]
    assert labels.tolist() == ["b", "a"]
    assert complaint(read_npz, path, "q", "y") == (
        "FILE: no array is named 'q'; there is 'x', 'y', 'z', 'w'"
    )
    assert complaint(read_npz, path, "x", "z") == (
        "FILE: 'z' must hold one integer or string per row, got shape (2,) of float64"
    )
    assert complaint(read_npz, path, "x", "w") == "FILE: 2 rows in 'x' but 3 in 'w'"
    path.write_bytes(path.read_bytes()[:-30])
    assert complaint(read_npz, path, "x", "y").startswith("FILE: is damaged or of another kind: ")
    assert complaint(read_npz, tmp_path / "none.npz", "x", "y") == "FILE: there is no such file"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "model"
    write_file(path, b"old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_npy_and_npz_are_told_apart(tmp_path):
    array, archive = tmp_path / "a.npy", tmp_path / "a.npz"
    np.save(array, np.ones((1, 2)))
    np.savez(archive, x=np.ones((1, 2)))
    assert complaint(read_npy, archive, 2) == (
        "FILE: expected one array (.npy), got an archive of arrays"
    )
    assert complaint(read_npz, array, "x", "y") == (
        "FILE: expected an archive of arrays (.npz), got one array"
    )
