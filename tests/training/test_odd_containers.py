"""Text behind something: packed whatever it is called, JSON in a table's name, lines before it."""

import bz2
import gzip
import json
import lzma

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy

from tests.training.odd_files import (
    COUNT,
    ROWS,
    Odd,
    X,
    Y,
    complaint,
    csv,
    exact,
    jsonl,
    npy,
    plain,
    right,
)

pytestmark = pytest.mark.once

TEXT = csv(plain())
ROWS_OF_JSON = jsonl(plain(a=X[:, 0].tolist(), b=X[:, 1].tolist(), y=Y.tolist()))
SVM = "".join(f"{i % 3} 1:{a} 2:{b}\n" for i, (a, b) in enumerate(X)).encode()


def packed(content: bytes, how: str) -> bytes:
    """As Arrow packs it."""
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, how) as file:
        file.write(content)
    return out.getvalue().to_pybytes()


def of_svmlight(dataset) -> bool:
    """Two features and the classes."""
    return dataset.classes == ("0", "1", "2") and dataset.features.shape == (ROWS, 2)


def halved(dataset) -> bool:
    """The numbers of bfloat16, each as it is."""
    column = dataset.columns.columns[0]
    values = dataset.features * np.array(column.scale) + np.array(column.mean)
    return np.allclose(values, X.astype(ml_dtypes.bfloat16)[dataset.rows].astype(float), atol=1e-6)


CASES = [
    *(Odd(f"t.csv.{how}", packed(TEXT, how), exact) for how in ("gzip", "zstd", "bz2", "lz4")),
    *(Odd(f"{how}.csv", packed(TEXT, how), exact) for how in ("gzip", "zstd", "bz2", "lz4")),
    Odd("not_packed.csv.gz", TEXT, exact),
    Odd("two_members.csv.gz", gzip.compress(TEXT[:99]) + gzip.compress(TEXT[99:]), exact),
    Odd("utf16.csv.bz2", bz2.compress(csv(plain(), encoding="utf-16")), exact),
    Odd("cut.csv.gz", gzip.compress(TEXT)[:-9], "FILE: cannot be read: "),
    Odd("rows.svm.zst", packed(SVM, "zstd"), of_svmlight),
    Odd("rows.jsonl.zst", packed(ROWS_OF_JSON, "zstd"), exact),
    Odd(
        "t.csv.xz",
        lzma.compress(TEXT),
        "FILE: is packed with xz; unpack it, or pack it with gzip or zstd",
    ),
    Odd("x.npy.gz", gzip.compress(npy(X)), "FILE: is a packed npy file; unpack it (gzip)"),
    # --- JSON by what it is
    Odd("rows_of_json.csv", ROWS_OF_JSON, exact),
    Odd("rows_of_json", b"\xef\xbb\xbf" + ROWS_OF_JSON, exact),
    Odd(
        "array.txt",
        json.dumps([*map(json.loads, ROWS_OF_JSON.splitlines())], indent=1).encode(),
        exact,
    ),
    Odd("braces.csv", csv({"{a}": X[:, 0], "b": X[:, 1], "y": Y}), right("{a}", "b")),
    # --- lines before the rows
    Odd("blank_first.csv", b"\n\n" + TEXT, exact),
    Odd("blank_first_crlf.csv", b"\r\n \r\n" + csv(plain(), end="\r\n"), exact),
    Odd(
        "blank_first_bad.csv",
        b"\n\n" + csv(plain(a=["oops", *X[1:, 0]])),
        "FILE: column 'a': expected a number, got 'oops' at line 4 (1 of 24 rows); ",
    ),
    Odd("break_in_header.csv", TEXT.replace(b"a,b", b'"a\n(mm)",b', 1), right("a\n(mm)", "b")),
    Odd(
        "break_in_header_of_words.csv",
        csv({'"c\nd"': ["u", "v"] * 12, "y": Y}),
        right("c\nd=u", "c\nd=v"),
    ),
    Odd(
        "spreadsheet.csv",
        b"sep=,\n" + TEXT,
        "FILE: line 1, 'sep=,', is for spreadsheets; delete it",
    ),
    Odd(
        "title.csv",
        b"Table 1\n" + TEXT,
        "FILE: line 2 has 3, line 3 has 3, line 4 has 3 fields, the first line has 1 and 22 more "
        "lines are like that; if it is a title or a comment, delete it",
    ),
    Odd("weka.txt", b"@relation t\n@data\n" + TEXT, "FILE: is an ARFF file; save it as CSV"),
    Odd(
        "carets.csv",
        csv(plain(), delimiter="^"),
        "FILE: no column is named 'y' ([data] label); there is 'a^b^y'; that is all one column: "
        "what stands between fields is [data] delimiter",
    ),
    Odd("carets_told.csv", csv(plain(), delimiter="^"), exact, {"delimiter": "^"}),
    # --- arrays
    Odd(
        "bfloat16.safetensors",
        safetensors.numpy.save({"features": X.astype(ml_dtypes.bfloat16), "labels": COUNT % 3}),
        halved,
        {"label": "labels"},
    ),
    Odd(
        "alone.npy",
        npy(X),
        "FILE: no column is named 'y' ([data] label); there is 'features'; labels of a second file "
        "are [data] labels_path",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_odd_container(case, tmp_path):
    assert complaint(case, tmp_path) == ""
