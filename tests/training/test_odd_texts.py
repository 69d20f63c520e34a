"""Columns aligned by spaces, texts in other encodings, and tables in one JSON document."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxsoftmax.training.data.sources import aligned as spaces
from jaxsoftmax.training.data.sources.encoding import encoding_of
from jaxsoftmax.training.errors import InputError
from tests.training.odd_files import ROWS, Odd, X, Y, changed, complaint, csv, exact, plain, right

pytestmark = pytest.mark.once

FARM = np.array(["кошка", "собака", "угорь"])[np.arange(ROWS) % 3]


def aligned(columns: dict, *, header: bool = True, end: str = "\n") -> bytes:
    """Columns below each other, the numbers to the right as pandas and R print them."""
    rows = [*([list(columns)] if header else []), *zip(*columns.values(), strict=True)]
    widths = [max(len(str(field)) for field in column) for column in zip(*rows, strict=True)]
    return end.join(
        "  ".join(f"{field!s:>{width}}" for field, width in zip(row, widths, strict=True)) + "  "
        for row in rows
    ).encode()


def numbered(dataset) -> bool:
    """Without names."""
    return right("0", "1")(dataset)


def whole(dataset) -> bool:
    """With a column of which some values are missing."""
    return dataset.columns.features[:3] == ("a", "b", "c")


def farm(dataset) -> bool:
    """The classes in Russian."""
    return dataset.classes == ("кошка", "собака", "угорь")


TABLE = plain(a=X[:, 0].tolist(), b=X[:, 1].tolist(), y=Y.tolist())
ROWS_OF_JSON = [dict(zip(TABLE, row, strict=True)) for row in zip(*TABLE.values(), strict=True)]
BY_COLUMN = {name: {str(i): value for i, value in enumerate(TABLE[name])} for name in TABLE}
DOCUMENTS = {
    "columns": BY_COLUMN,
    "index": {str(i): row for i, row in enumerate(ROWS_OF_JSON)},
    "split": {
        "columns": list(TABLE),
        "index": list(range(ROWS)),
        "data": [list(row.values()) for row in ROWS_OF_JSON],
    },
    "table": {"schema": {"fields": []}, "data": ROWS_OF_JSON},
    "named": {"animals": ROWS_OF_JSON},
    "lists": TABLE,
}
CASES = [
    Odd("aligned.txt", aligned(plain()), exact),
    Odd("aligned_crlf.txt", aligned(plain(), end="\r\n"), exact),
    Odd("aligned.data", aligned(plain(), header=False), numbered, {"label": 2}),
    Odd(
        "aligned_quotes.txt",
        aligned(plain(c=['"u  v"', "w"] * (ROWS // 2))),
        right("a", "b", "c=u  v", "c=w"),
    ),
    Odd(
        "aligned_empty.txt",
        aligned(changed("a", 4, "")),
        "FILE: line 6 has 2 fields, the first line has 3; where fields are empty, or have spaces "
        "in them, put another delimiter between",
    ),
    Odd(
        "aligned_bad.txt",
        aligned(changed("a", 4, "oops")),
        "FILE: column 'a': expected a number, got 'oops' at line 6 (1 of 24 rows); ",
    ),
    Odd(
        "double_spaces.csv", csv(plain(c=["u  v", "u v"] * 12)), right("a", "b", "c=u  v", "c=u v")
    ),
    Odd(
        "cyrillic.csv",
        csv(plain(y=FARM), encoding="cp1251"),
        'FILE: is neither UTF-8 (byte 21) nor Western text; write [data] encoding: "cp1251" '
        "reads 'собака', ",
    ),
    Odd("told.csv", csv(plain(y=FARM), encoding="koi8-r"), farm, {"encoding": "koi8-r"}),
    *(Odd(f"{name}.json", json.dumps(table).encode(), exact) for name, table in DOCUMENTS.items()),
    Odd("indented.json", json.dumps(BY_COLUMN, indent=2).encode(), exact),
    Odd("marked.json", b"\xef\xbb\xbf" + json.dumps(BY_COLUMN).encode(), exact),
    Odd(
        "long_lines.jsonl",
        "\n".join(json.dumps(row | {"z": " " * 70_000}) for row in ROWS_OF_JSON).encode(),
        exact,
    ),
    Odd(
        "names_of_rows.json",
        json.dumps({"a": {"r": 1, "s": 2}, "y": {"r": "u", "s": "v"}}).encode(),
        "FILE: is one object of objects, of which none is a row for sure; write an object in "
        'each line, as pandas does with orient="records", lines=True',
    ),
    Odd("arrays.json", b"[[1, 2], [3, 4]]", "FILE: rows must be objects, as in "),
    Odd("cut.json", json.dumps(BY_COLUMN).encode()[:-9], "FILE: is damaged or of another kind: "),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_texts_and_documents_are_read_as_meant_or_refused(case: Odd, tmp_path):
    assert complaint(case, tmp_path) == ""


WESTERN = [
    "âge,prénom,région\n12,Zoé,Île-de-France\n3,Noël,Côte d’Azur\n4,créée,« œuvre »",
    "größe,straße\nsüß,Grüße\nÜbermaß,Äöü",
    "päivä,määrä\njää,sää\nyö,työ\nääni,hyöty",
    "töö,öö\njäääär,õun\nsüü,müük",
    "ação,não\nmanhã,coração\n¿qué?,señor",
    "æði,þú\nöðru,áðan",
    "°C,µm³\n½,¼\n€5,£3\n\xa0\xa0\xa0,–",
]
OTHERS = [
    ("cp1251", "возраст,пол\n12,муж\n3,жен\n5,да"),
    ("koi8-r", "возраст,пол\n12,муж\n3,жен"),
    ("gbk", "性别,年龄\n男,1\n女,2"),
    ("shift_jis", "性別,年齢\n男,1\nセトサ,3"),
    ("shift_jis", "y\nバーシカラー\nひらがなの花"),
    ("euc_jp", "性別,年齢\n男,1"),
    ("euc_kr", "성별,나이\n남자,1\n여자,2"),
    ("cp1253", "ηλικία,φύλο\n1,άνδρας"),
    ("cp1255", "גיל,מין\n1,זכר"),
    ("cp1256", "العمر,الجنس\n1,ذكر"),
    ("cp874", "อายุ,เพศ\n1,ชาย"),
]


@pytest.mark.parametrize("text", WESTERN, ids=lambda text: text.split(",")[0])
def test_western_texts_are_read(text: str):
    assert encoding_of(Path("t.csv"), text.encode("cp1252")) == "cp1252"
    assert encoding_of(Path("t.csv"), text.encode()) == "utf-8"


@pytest.mark.parametrize(("encoding", "text"), OTHERS)
def test_other_texts_are_refused_with_a_word_of_them(encoding: str, text: str):
    with pytest.raises(InputError) as refused:
        encoding_of(Path("t.csv"), text.encode(encoding))
    readings = str(refused.value).split(f'"{encoding}" reads ')[1:]
    assert readings, refused.value
    assert readings[0].split("'")[1] in text


WORDS = st.lists(st.lists(st.text("ab'é,", min_size=1), min_size=1, max_size=4), max_size=6)


@given(WORDS, st.lists(st.integers(1, 5), min_size=1))
def test_single_spaced_lines_have_the_same_words(rows, gaps):
    lines = ["".join(" " * gaps[i % len(gaps)] + w for i, w in enumerate(row)) for row in rows]
    assert [spaces.single_spaced(line) for line in lines] == [" ".join(row) for row in rows]


@pytest.mark.parametrize("block", [1, 2, 5, 64])
def test_blocks_of_an_aligned_file_end_anywhere(block, tmp_path, monkeypatch):
    monkeypatch.setattr(spaces, "BLOCK", block)
    rng, path = np.random.default_rng(block), tmp_path / "t.txt"
    for _ in range(50):
        text = "".join(rng.choice([*'   ab"', "\t", "\n", "\r\n"], size=rng.integers(40)))
        path.write_bytes(text.encode())
        with spaces.single_spaced_file(path) as file:
            found = file.read().decode()
        assert found == "\n".join(map(spaces.single_spaced, text.split("\n")))
