"""Files in the shapes that people report trouble with, and what each must come to.

A case is (name of the file, its bytes, what happens). What happens is a function of the `Dataset`
that must hold, or the sentence of the refusal, with FILE for the path. Rows are enough for a split.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import safetensors.numpy

from jaxsoftmax.training import data
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.errors import InputError

Check = Callable[..., bool]
RNG = np.random.default_rng(0)
ROWS = 24
X = np.round(RNG.normal(size=(ROWS, 2)), 4)
Y = np.array(["cat", "dog", "eel"])[np.arange(ROWS) % 3]


class Odd(NamedTuple):
    """One file."""

    name: str
    content: bytes
    outcome: Check | str
    data: dict[str, object] = {}  # noqa: RUF012 - never written to


def csv(
    columns: dict[str, object], *, delimiter=",", header=True, end="\n", encoding="utf-8"
) -> bytes:
    """Columns as delimited text."""
    lines = [delimiter.join(columns)] if header else []
    lines += [delimiter.join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    return (end.join(lines) + end).encode(encoding)


def plain(**more) -> dict[str, object]:
    """Two numbers and a class."""
    return {"a": X[:, 0], "b": X[:, 1], "y": Y} | more


def changed(column: str, row: int, text: str) -> dict[str, object]:
    """A table with one other value."""
    table = plain()
    values = [str(value) for value in table[column]]
    values[row] = text
    return table | {column: values}


def right(*names: str) -> Check:
    """These features, and the three classes with their rows."""

    def holds(dataset) -> bool:
        counts = np.bincount(dataset.labels).tolist()
        same = dataset.classes == ("cat", "dog", "eel") and counts == [ROWS // 3] * 3
        return same and dataset.columns.features == (names or ("a", "b"))

    return holds


def exact(dataset) -> bool:
    """The numbers themselves, in the places of their rows."""
    column = dataset.columns.columns[0]
    values = dataset.features[:, 0] * column.scale + column.mean
    return right()(dataset) and np.allclose(values, X[dataset.rows, 0], atol=1e-5)


def noting(*words: str) -> Check:
    """Notes with these words, and no others."""
    return lambda dataset: (
        len(dataset.notes) == len(words)
        and all(word in note for word, note in zip(words, dataset.notes, strict=True))
    )


def dropping(name: str, why: str) -> Check:
    """This column left out, and the others as they are."""
    return lambda dataset: exact(dataset) and dataset.dropped == {name: why}


def npy(array, **options) -> bytes:
    """A ``.npy`` file."""
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


def npz(**arrays) -> bytes:
    """A ``.npz`` file."""
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def archive(*members: tuple[str, bytes]) -> bytes:
    """A ZIP archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return out.getvalue()


def arrow(write, **columns) -> bytes:
    """A table in a format of Arrow."""
    out = io.BytesIO()
    write(pa.table(columns), out)
    return out.getvalue()


def stream(table, out) -> None:
    """An Arrow stream."""
    with pyarrow.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)


def jsonl(columns) -> bytes:
    """JSON lines."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def of_people(value: str) -> str:
    """The refusal of a column c of numbers in another dress, the first of which is this."""
    return (
        f"FILE: column 'c': looks like numbers written for people, as '{value}' at line 2; take "
        'separators and units out, or write [data] decimal, or [columns] categorical = ["c"]'
    )


COUNT = np.arange(1, ROWS + 1)
SHUFFLED = RNG.permutation(ROWS)
DAMAGED = "FILE: is damaged or of another kind: "
DATES = [f"2026-01-{day:02}" for day in COUNT]
BY_NAME = {"label": "labels"}

CASES = [
    # --- text, as other programs write it
    Odd("plain.csv", csv(plain()), exact),
    Odd("crlf.csv", csv(plain(), end="\r\n"), exact),
    Odd("bom.csv", b"\xef\xbb\xbf" + csv(plain()), exact),
    Odd("no_newline_at_end.csv", csv(plain()).rstrip(b"\n"), exact),
    Odd("blank_lines.csv", csv(plain()).replace(b"\n", b"\n\n"), exact),
    Odd("semicolons.csv", csv(plain(), delimiter=";"), exact),
    Odd("tabs.tsv", csv(plain(), delimiter="\t"), exact),
    Odd("bars.txt", csv(plain(), delimiter="|"), exact),
    Odd("spaces.txt", csv(plain(), delimiter=" "), exact),
    Odd("decimal_comma.csv", csv(plain(), delimiter=";").replace(b".", b","), exact),
    Odd("utf16.csv", csv(plain(), encoding="utf-16"), exact),
    Odd("utf16_without_mark.csv", csv(plain(), encoding="utf-16-le"), exact),
    Odd(
        "latin1.csv",
        csv(plain(c=["süß", "rot"] * (ROWS // 2)), encoding="latin-1"),
        right("a", "b", "c=rot", "c=süß"),
    ),
    Odd("packed.csv.gz", gzip.compress(csv(plain())), exact),
    Odd("quoted.csv", csv(plain(y=[f'"{y}"' for y in Y])), exact),
    Odd(
        "single_quotes.csv",
        csv({"'a'": X[:, 0], "'b'": X[:, 1], "'y'": [f"'{y}'" for y in Y]}),
        exact,
    ),
    Odd(
        "single_quotes_below.csv",
        csv(plain(a=[f"'{x}'" for x in X[:, 0]], y=[f"'{y}'" for y in Y])),
        exact,
    ),
    Odd(
        "single_quotes_of_text.csv",
        csv(plain(c=[f"'{n % 2}, or so'" for n in COUNT])),
        right("a", "b", "c=0, or so", "c=1, or so"),
    ),
    Odd(
        "quoted_decimal_comma.csv",
        csv({k: [f'"{v}"'.replace(".", ",") for v in column] for k, column in plain().items()}),
        exact,
    ),
    Odd("padded.csv", csv(plain(y=[f"  {y} " for y in Y], a=[f" {x} " for x in X[:, 0]])), exact),
    Odd("capital_ending.CSV", csv(plain()), exact),
    Odd("no_ending", csv(plain()), exact),
    # --- headers
    Odd("no_header.csv", csv(plain(), header=False), right("0", "1"), {"label": 2}),
    Odd(
        "no_header_label_by_name.csv",
        csv(plain(), header=False),
        "FILE: no column is named 'y' ([data] label); there is '0', '1', '2'; "
        "the file has no header, so write the number of the column",
    ),
    Odd("numpy_header.csv", b"# " + csv(plain()), exact),
    Odd(
        "words_without_header.csv",
        csv({"c": ["x", "o", "x", "b"] * 6, "y": Y}, header=False),
        right("0=b", "0=o", "0=x"),
        {"label": 1},
    ),
    Odd("last_column.csv", csv(plain()), exact, {"label": -1}),
    Odd("row_names.csv", csv({"": COUNT} | plain()), right()),
    Odd(
        "comma_in_each_row.csv",
        csv(plain())
        .replace(b",cat", b",big, cat")
        .replace(b",dog", b",a, dog")
        .replace(b",e", b",,e"),
        "FILE: rows have a field more than the header, and the first is no name of the row, as in "
        f"'{X[0, 0]}'; put fields that have a delimiter in quotes",
    ),
    Odd("row_names_without_name.csv", csv({"n": COUNT} | plain()).replace(b"n,", b"", 1), right()),
    Odd("trailing_comma.csv", csv(plain()).replace(b"\n", b",\n").replace(b",", b"", 0), right()),
    Odd("index_from_zero.csv", csv({"id": COUNT - 1} | plain()), right()),
    Odd(
        "repeated_header.csv",
        csv(plain()).replace(b"b", b"a", 1),
        "FILE: the header repeats 'a'",
    ),
    Odd("spaces_in_header.csv", csv({" a": X[:, 0], "b ": X[:, 1], " y ": Y}), exact),
    Odd(
        "numbers_as_header.csv",
        csv({"0": X[:, 0], "1": X[:, 1], "y": Y}),
        right("0", "1"),
    ),
    # --- values
    Odd("large_offset.csv", csv(plain(a=[f"{5e6 + x:.4f}" for x in X[:, 0]])), right()),
    Odd("beyond_float32.csv", csv(plain(a=[f"{x}e39" for x in X[:, 0]])), right()),
    Odd(
        "beyond_float64_squared.csv",
        csv(plain(a=[f"{x}e200" for x in X[:, 0]])),
        "FILE: column 'a' has numbers too large to standardise",
    ),
    Odd(
        "one_bad_number.csv",
        csv(changed("a", 5, "oops")),
        "FILE: column 'a': expected a number, got 'oops' at line 7 (1 of 24 rows); write "
        '[columns] missing_values to read such text as missing, or categorical = ["a"]',
    ),
    Odd(
        "underscore.csv",
        csv(changed("a", 5, "1_000")),
        "FILE: column 'a': expected a number, got '1_000' at line 7 (1 of 24 rows); write "
        '[columns] missing_values to read such text as missing, or categorical = ["a"]',
    ),
    Odd(
        "infinite.csv",
        csv(changed("b", 0, "inf")),
        "FILE: column 'b': expected a number, got 'inf' at line 2 (1 of 24 rows); write "
        '[columns] missing_values to read such text as missing, or categorical = ["b"]',
    ),
    Odd(
        "too_large.csv",
        csv(changed("b", 0, "1e400")),
        "FILE: column 'b': expected a number, got '1e400' at line 2 (1 of 24 rows); write "
        '[columns] missing_values to read such text as missing, or categorical = ["b"]',
    ),
    Odd("missing.csv", csv(changed("a", 3, "")), right("a", "a is missing", "b")),
    Odd("missing_na.csv", csv(changed("a", 3, "NA")), right("a", "a is missing", "b")),
    Odd("missing_question.csv", csv(changed("a", 3, "?")), right("a", "a is missing", "b")),
    Odd("empty_column.csv", csv(plain(c=[""] * ROWS)), right()),
    Odd("one_number.csv", csv(plain(c=[7.5] * ROWS)), noting("one value in all rows of 'c'")),
    Odd("one_word.csv", csv(plain(c=["x"] * ROWS)), dropping("c", "all rows have one value")),
    Odd("one_or_none.csv", csv(plain(c=["7", ""] * 12)), right("a", "b", "c", "c is missing")),
    Odd(
        "codes.csv",
        csv(plain(c=[f"0{n % 7}234" for n in COUNT])),
        noting("zeros before the numbers of 'c'"),
    ),
    Odd(
        "identifiers.csv",
        csv({k: [*column] * 2 for k, column in plain().items()} | {"id": np.arange(48)[::-1] ** 2}),
        noting("another whole number in each row of 'id'"),
    ),
    Odd("booleans.csv", csv(plain(c=["true", "false"] * 12)), right("a", "b", "c=false", "c=true")),
    Odd(
        "dates.csv",
        csv(plain(when=DATES)),
        "FILE: column 'when': holds dates or times, and what they should count is yours to say: "
        'write [columns] drop = ["when"], or make a number of it, as in\n'
        '    table["when"] = pandas.to_datetime(table["when"])\n'
        '    table["when"] = (table["when"] - table["when"].min()).dt.total_seconds()',
    ),
    Odd(
        "days.csv",
        csv(plain(when=[day.replace("-", "") for day in DATES])),
        "FILE: column 'when': holds dates or times, and what they should count is yours to say: "
        'write [columns] drop = ["when"], or make a number of it, as in\n'
        '    table["when"] = pandas.to_datetime(table["when"].astype(str))\n'
        '    table["when"] = (table["when"] - table["when"].min()).dt.total_seconds()',
    ),
    *(
        Odd(f"dates_{i}.csv", csv(plain(when=days)), "FILE: column 'when': holds dates or times, ")
        for i, days in enumerate(
            (
                [f"{n}/{n}/26" for n in COUNT % 12 + 1],
                [f"{n} March 2026" for n in COUNT],
                [f"Sep {n} 2026" for n in COUNT],
                [f"{n}-Dec-26" for n in COUNT],
                [f"{n % 12 + 1}:30 PM" for n in COUNT],
                [f"20{n:02}-11" for n in COUNT],
            )
        )
    ),
    Odd(
        "units.csv", csv(plain(c=[f"{n}.5 kg" for n in SHUFFLED])), of_people(f"{SHUFFLED[0]}.5 kg")
    ),
    Odd(
        "fortran.csv",
        csv(plain(c=[f"{n}.5D-01" for n in SHUFFLED])),
        of_people(f"{SHUFFLED[0]}.5D-01"),
    ),
    Odd(
        "minus.csv",
        csv(plain(c=[f"−{n + 1}.5" for n in SHUFFLED])),
        of_people(f"−{SHUFFLED[0] + 1}.5"),
    ),
    Odd("hex.csv", csv(plain(c=[hex(n) for n in SHUFFLED])), of_people(hex(SHUFFLED[0]))),
    Odd(
        "levels.csv",
        csv(plain(c=["0.0cwt", "0.2cwt"] * 12)),
        right("a", "b", "c=0.0cwt", "c=0.2cwt"),
    ),
    Odd("signs.csv", csv(plain(c=["+", "-"] * 12)), right("a", "b", "c=+", "c=-")),
    Odd(
        "ages.csv",
        csv(plain(c=["<30", "30-39", "40+"] * 8)),
        right("a", "b", "c=30-39", "c=40+", "c=<30"),
    ),
    Odd(
        "thousands.csv",
        csv(plain(c=[f'"{n},000"' for n in SHUFFLED + 1])),
        "FILE: column 'c': looks like numbers written for people, as '",
    ),
    Odd(
        "percent.csv",
        csv(plain(c=[f"{n}%" for n in SHUFFLED])),
        "FILE: column 'c': looks like numbers written for people, as '",
    ),
    # --- labels
    Odd(
        "label_missing.csv",
        csv(changed("y", 4, "")),
        "FILE: line 6: the label 'y' is empty (1 such rows); "
        'write [data] missing_labels = "drop_row" to leave them out',
    ),
    Odd(
        "label_na.csv",
        csv(changed("y", 4, "NA")),
        "FILE: line 6: the label 'y' says 'NA' (1 such rows); "
        'write [data] missing_labels = "drop_row" to leave them out, '
        "or [columns] missing_values without it (now '', 'NA', 'N/A', 'n/a', '#N/A', 'nan', 'NaN', "
        "'NAN')",
    ),
    Odd(
        "label_numbers.csv",
        csv(plain(y=np.array(["1.0", "10.0", "2.0"])[np.arange(ROWS) % 3])),
        lambda dataset: dataset.classes == ("1", "2", "10"),
    ),
    Odd(
        "label_of_two_files.csv",
        csv(plain(y=["1", "1.0", "2"] * 8)),
        lambda dataset: dataset.classes == ("1", "2"),
    ),
    Odd("label_zeros.csv", csv(plain(y=["01", "1", "2"] * 8)), noting("may be one: 01/1")),
    Odd("label_case.csv", csv(plain(y=["Cat", "cat", "dog"] * 8)), noting("may be one: Cat/cat")),
    Odd(
        "label_list.parquet",
        arrow(pyarrow.parquet.write_table, a=X[:, 0], y=[["cat"]] * ROWS),
        "FILE: 'y' must hold one number or text for each row, got list<element: string>",
    ),
    Odd(
        "label_quantity.csv",
        csv(plain(y=X[:, 1] * 3)),
        "FILE: 'y' looks like a quantity: 24 different numbers in 24 rows, and a classifier would "
        "learn each as a class of its own; write [data] many_classes = true if they are classes",
    ),
    Odd(
        "one_class.csv",
        csv(plain(y=["cat"] * ROWS)),
        "FILE: a classifier needs at least 2 classes, 'y' has 1",
    ),
    # --- damaged text
    Odd("empty.csv", b"", "FILE: is empty"),
    Odd("white.csv", b" \n\n", "FILE: is empty"),
    Odd("header_only.csv", b"a,b,y\n", "FILE: has a header and no rows"),
    Odd(
        "ragged.csv",
        csv(plain()) + b"1,2\n1,2,cat,4\n",
        "FILE: line 26 has 2, line 27 has 4 fields, the first line has 3",
    ),
    Odd(
        "open_quote.csv",
        csv(changed("y", 20, '"cat')),
        "FILE: line 22: a quote is opened and never closed",
    ),
    Odd("inches.csv", csv(plain(c=["5in", '6"'] * 12)), right("a", "b", "c=5in", 'c=6"')),
    Odd("one_inch.csv", csv(plain(c=['6"'] + ["5in"] * 23)), right("a", "b", "c=5in", 'c=6"')),
    Odd("nul.csv", csv(changed("y", 3, "ca\0t")), "FILE: has NUL characters; it is no text"),
    # --- other formats
    Odd("rows.jsonl", jsonl(plain(a=X[:, 0].tolist(), b=X[:, 1].tolist(), y=Y.tolist())), exact),
    Odd(
        "array.json",
        b"["
        + jsonl(plain(a=X[:, 0].tolist(), b=X[:, 1].tolist(), y=Y.tolist()))
        .strip()
        .replace(b"\n", b",")
        + b"]",
        exact,
    ),
    Odd("numbers.json", b"[1, 2, 3]", "FILE: rows must be objects, as in "),
    Odd(
        "no_utf8.jsonl",
        jsonl(plain(a=X[:, 0].tolist(), b=X[:, 1].tolist(), y=Y.tolist())).replace(
            b"cat", b"c\xe2t"
        ),
        DAMAGED,
    ),
    Odd("comment.svm", b"# nothing\n", "FILE: "),
    Odd("cut.jsonl", jsonl(plain())[:-9] + b'{"a": 1,', "FILE: "),
    Odd("t.parquet", arrow(pyarrow.parquet.write_table, **plain()), exact),
    Odd(
        "views.arrow",
        arrow(stream, a=X[:, 0], b=X[:, 1], y=pa.array(Y.tolist(), pa.string_view())),
        exact,
    ),
    Odd("t.feather", arrow(pyarrow.feather.write_feather, **plain()), exact),
    Odd("stream.arrow", arrow(stream, **plain()), exact),
    Odd("named_wrong.csv", arrow(pyarrow.parquet.write_table, **plain()), exact),
    Odd("cut.parquet", arrow(pyarrow.parquet.write_table, **plain())[:-20], "FILE: "),
    Odd(
        "embeddings.parquet",
        arrow(pyarrow.parquet.write_table, e=X.tolist(), y=Y),
        right("e[0]", "e[1]"),
    ),
    Odd(
        "ragged_vectors.parquet",
        arrow(pyarrow.parquet.write_table, e=[*X.tolist()[:-1], [1.0]], y=Y),
        "FILE: column 'e': 'a vector of length 1' at row 23 (1 such rows); the first has 2",
    ),
    Odd(
        "nan_vectors.parquet",
        arrow(pyarrow.parquet.write_table, e=[*X.tolist()[:-1], [1.0, np.nan]], y=Y),
        "FILE: column 'e': 'a vector with NaN or infinity' at row 23 (1 such rows); "
        "expected numbers",
    ),
    Odd("a.npz", npz(features=X, labels=Y), right("features[0]", "features[1]"), BY_NAME),
    Odd(
        "float_labels.npz",
        npz(X=X, y=np.arange(ROWS) % 2 * 1.0),
        lambda dataset: dataset.classes == ("0", "1"),
        {"label": None},
    ),
    Odd("byte_labels.npz", npz(X=X, y=Y.astype("S")), right("features[0]", "features[1]")),
    Odd(
        "images.npz",
        npz(x=np.zeros((ROWS, 4, 3), np.uint8), y=Y),
        lambda dataset: dataset.features.shape == (ROWS, 12),
    ),
    Odd("lengths.npz", npz(x=X, y=Y[1:]), "FILE: 24 rows in 'features' but 23 rows in 'labels'"),
    Odd(
        "objects.npz",
        npz(x=X, y=np.array([{}] * ROWS)),
        DAMAGED + "'y.npy' holds Python objects, which are never loaded",
    ),
    Odd("cut.npz", npz(x=X, y=Y)[:-30], DAMAGED + "File is not a zip file"),
    Odd(
        "twice.npz",
        archive(("x.npy", npy(X)), ("y.npy", npy(Y)), ("y.npy ", npy(Y))).replace(
            b"y.npy ", b"y.npy\0"
        ),
        "FILE: has two members named 'y.npy'",
    ),
    Odd(
        "bomb.npz",
        archive(("x.npy", b"\0" * (1 << 28) + b"\0"), ("y.npy", npy(Y))),
        "FILE: 'x.npy' would unpack to 268,435,457 bytes, ",
    ),
    Odd(
        "t.safetensors",
        safetensors.numpy.save({"features": X, "labels": np.arange(ROWS) % 3}),
        lambda dataset: dataset.classes == ("0", "1", "2"),
        BY_NAME,
    ),
    Odd(
        "rows.svm",
        "".join(f"{i % 3} 1:{a} 2:{b}\n" for i, (a, b) in enumerate(X)).encode(),
        lambda dataset: dataset.classes == ("0", "1", "2") and dataset.features.shape == (ROWS, 2),
    ),
    Odd(
        "far.svm",
        b"".join(b"%d 1:1 900000000:1\n" % (i % 3) for i in range(ROWS)),
        "FILE: has a feature of number 900,000,000, and at most 4,194,304 are read",
    ),
    Odd(
        "images-idx3-ubyte",
        struct.pack(">HBB3I", 0, 8, 3, ROWS, 2, 2) + bytes(ROWS * 3),
        "FILE: has 72 bytes where its header says 96",
    ),
    # --- no data at all
    Odd(
        "model.pkl",
        pickle.dumps({}, protocol=4),
        "FILE: is a Python pickle, which can run code when it is opened and is never read here",
    ),
    Odd("page.csv", b"<!DOCTYPE html><p>404", "FILE: is a web page; the download has failed"),
    Odd("photo.csv", b"\x89PNG\r\n\x1a\n" + bytes(40), "FILE: is a PNG image"),
    Odd("book.xlsx", archive(("a.xml", b"x")), "FILE: is an Excel file; save it as CSV"),
    Odd(
        "files.zip",
        archive(("a.csv", b"x")),
        "FILE: is a ZIP archive of other files; unpack it and name one of them",
    ),
    Odd("noise.bin", bytes(range(256)) * 9, "FILE: has NUL characters; it is no text"),
]


def prepared(path: Path, **more: object) -> data.Dataset:
    """The data set of a file whose label is called y."""
    tree = {"data": {"path": str(path), "label": "y"} | more}
    return data.prepare(RunConfig.model_validate_json(json.dumps(tree)))


def complaint(case: Odd, folder: Path) -> str:
    """What is wrong with how a file is read; empty if nothing is."""
    path = folder / case.name
    path.write_bytes(case.content)
    try:
        dataset = prepared(path, **case.data)
    except InputError as error:
        message = str(error).replace(f"{path}", "FILE")
    else:
        right = callable(case.outcome) and case.outcome(dataset)
        return "" if right else "is read, and not as it was meant"
    if callable(case.outcome):
        return message
    begins = case.outcome.endswith((" ", "'")) and message.startswith(case.outcome)
    return "" if message == case.outcome or begins else message
