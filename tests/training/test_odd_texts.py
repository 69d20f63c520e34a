"""Columns aligned by spaces, texts in other encodings, and tables in one JSON document."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxsoftmax.training.config.keys import DataConfig
from jaxsoftmax.training.data.sources import aligned as spaces
from jaxsoftmax.training.data.sources import jsonl
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


WITH_MISSING = {"a": X[:, 0], "c": ["", 1, 2] * 8, "b": X[:, 1], "y": Y}
GAPS = plain(c=["u  v", "w  x"] * 12)


def whole(dataset) -> bool:
    """With a column of which some values are missing."""
    values = dataset.columns.columns
    return [column.name for column in values] == ["a", "c", "b"] and right(
        "a", "c", "c is missing", "b"
    )(dataset)


def farm(dataset) -> bool:
    """The classes in Russian."""
    return dataset.classes == ("кошка", "собака", "угорь")


TABLE = plain(a=X[:, 0].tolist(), b=X[:, 1].tolist(), y=Y.tolist())
ROWS_OF_JSON = [dict(zip(TABLE, row, strict=True)) for row in zip(*TABLE.values(), strict=True)]
BY_COLUMN = {name: {str(i): value for i, value in enumerate(TABLE[name])} for name in TABLE}
NUMBERED = {str(i): of for i, of in enumerate(BY_COLUMN.values())}  # rows are, too
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
UNSURE = (
    "FILE: is one object of objects, of which none is a row for sure; write an object in each "
    'line, as pandas does with orient="records", lines=True'
)
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
    Odd("aligned_tabs.txt", aligned(plain()).replace(b"   ", b" \t "), exact),
    Odd("doubled_tabs.txt", csv(plain(), delimiter="\t").replace(b"\teel", b"\t\teel"), exact),
    Odd(
        "aligned_and_a_tab.data",
        "".join(f'{a:8}  {b:8}\t"a {y}"\n' for (a, b), y in zip(X, Y, strict=True)).encode(),
        lambda dataset: dataset.classes == ("a cat", "a dog", "a eel"),
        {"label": 2},
    ),
    # Of a regular file two spaces, or tabs, are a field without a value.
    Odd("spaces_with_missing.txt", csv(WITH_MISSING, delimiter=" "), whole),
    Odd("tabs_with_missing.txt", csv(WITH_MISSING, delimiter="\t"), whole),
    Odd("words_with_gaps.txt", csv(GAPS, delimiter=";"), right("a", "b", "c=u  v", "c=w  x")),
    Odd(
        "words_between_tabs.txt",
        csv(plain(c=["u v", "w x"] * 12), delimiter="\t", header=False),
        right("0", "1", "3=u v", "3=w x"),
        {"label": 2},
    ),
    Odd(
        "two_spaces.txt",
        b"\n".join(b"  ".join(line.split()) for line in aligned(plain()).splitlines()),
        lambda dataset: exact(dataset) and not dataset.dropped,
    ),
    Odd("utf16_spaces.txt", csv(plain(), delimiter=" ", encoding="utf-16"), exact),
    Odd(
        "utf16_aligned.txt",
        aligned(plain()).decode().encode("utf-16"),
        "FILE: ",
    ),
    Odd(
        "double_spaces.csv", csv(plain(c=["u  v", "u v"] * 12)), right("a", "b", "c=u  v", "c=u v")
    ),
    Odd(
        "cyrillic.csv",
        csv(plain(y=FARM), encoding="cp1251"),
        "FILE: is neither UTF-8 (byte 21) nor Western text (cp1252); write [data] encoding: "
        "\"cp1251\" reads 'собака', ",
    ),
    Odd("told.csv", csv(plain(y=FARM), encoding="koi8-r"), farm, {"encoding": "koi8-r"}),
    *(Odd(f"{name}.json", json.dumps(table).encode(), exact) for name, table in DOCUMENTS.items()),
    Odd("indented.json", json.dumps(BY_COLUMN, indent=2).encode(), exact),
    Odd(
        "nan.json",
        json.dumps(
            [{"c": float("nan") if i % 3 else "u"} | row for i, row in enumerate(ROWS_OF_JSON)]
        ).encode(),
        lambda dataset: dataset.classes == ("cat", "dog", "eel"),
    ),
    Odd("marked.json", b"\xef\xbb\xbf" + json.dumps(BY_COLUMN).encode(), exact),
    Odd(
        "long_lines.jsonl",
        "\n".join(json.dumps(row | {"z": " " * 70_000}) for row in ROWS_OF_JSON).encode(),
        exact,
    ),
    Odd("no_label.json", b'{"a": {"r": 1, "s": 2}, "b": {"r": 1, "s": 2}}', UNSURE),
    Odd(
        "names_of_rows.json",
        json.dumps(
            {n: {f"r{i}": v for i, v in of.items()} for n, of in BY_COLUMN.items()}
        ).encode(),
        exact,
    ),
    Odd("all_by_number.json", json.dumps(NUMBERED).encode(), UNSURE, {"label": 2}),
    Odd(
        "rows_by_name.json",
        json.dumps({f"r{i}": row for i, row in enumerate(ROWS_OF_JSON)}).encode(),
        exact,
    ),
    Odd(
        "repeated.json",
        json.dumps(DOCUMENTS["split"] | {"columns": ["a", "a", "y"]}).encode(),
        "FILE: columns repeat 'a'",
    ),
    Odd(
        "short_row.json",
        json.dumps(DOCUMENTS["split"] | {"data": [[1, 2, "cat"], [1, "dog"]]}).encode(),
        "FILE: data must be rows of a value for each of 3 columns",
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
    "x µm²,y °C,z m³,½ cup,£5,±3,° §",
    "a µm,b µg,c °C,d °F\n1,2,3,4",
    "price\n€\n€€\n€€€\n€€€€\n———",
]
OTHERS = [
    ("cp1251", "возраст,пол\n12,муж\n3,жен\n5,да"),
    ("koi8-r", "возраст,пол\n12,муж\n3,жен"),
    ("gbk", "性别,年龄\n男,1\n女,2"),
    ("shift_jis", "性別,年齢\n男,1\nセトサ,3"),
    ("big5", "性別,年齡,城市\n男,1,台北\n女,2,高雄\n女,2,台中"),
    ("shift_jis", "y\nバーシカラー\nひらがなの花"),
    ("euc_jp", "性別,年齢\n男,1"),
    ("euc_kr", "성별,나이\n남자,1\n여자,2"),
    ("gbk", "年龄（岁）,性别\n３５％,男性\n１２％,女性"),
    ("cp850", "Größe,Name\nklein,Müller\ngroß,Jürgen"),
    ("mac_roman", "prénom,âge\nZoë,été\nÊtre,Hélène"),
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


HAN = (
    "的一是不了人我在有他中大上到子年地出道也下以生自着去之天"
    "而好日成事只看文手十用主行方如前本面公三已老同"
)
KANA = "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモ"
LETTERS = {
    "cp1251": "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "koi8-r": "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "cp1253": "αβγδεζηθικλμνξοπρστυφχψω",
    "cp1255": "אבגדהוזחטיכלמנסעפצקרשת",
    "cp1256": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "gbk": HAN,
    "big5": HAN,
    "shift_jis": HAN + KANA,
    "euc_jp": HAN + KANA,
}


@pytest.mark.parametrize("encoding", LETTERS)
def test_tables_of_random_words_are_refused_with_the_right_reading_among_those_shown(encoding):
    rng, tables, refusals, right = np.random.default_rng(0), 100, 0, 0
    letters = [c for c in LETTERS[encoding] if c.encode(encoding, errors="ignore")]
    shortest, longest = (1, 5) if letters[0] == HAN[0] else (3, 10)
    for _ in range(tables):
        words = ["".join(rng.choice(letters, rng.integers(shortest, longest))) for _ in range(8)]
        text = "".join(f"{rng.choice(words)},{i}\n" for i in range(30))
        try:
            encoding_of(Path("t.csv"), text.encode(encoding))
        except InputError as error:
            refusals, right = refusals + 1, right + (f'"{encoding}" reads' in str(error))
    assert refusals >= 0.95 * tables
    assert right >= 0.95 * refusals


@pytest.mark.parametrize("letters", ["äöüß", "éèêàçùôîœ", "äö", "ñáéíóú", "åäö", "ãõçáéíóú"])
def test_tables_of_random_western_words_are_read(letters):
    rng = np.random.default_rng(0)
    for _ in range(100):
        words = ["".join(rng.choice([*"abdegilmnorst" * 3, *letters], 8)) for _ in range(12)]
        content = ("\n".join(words) + "\nab,cd").encode("cp1252")
        assert encoding_of(Path("t.csv"), content) in ("cp1252", "utf-8")


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


def test_a_row_that_is_one_vector_stays_one_row(tmp_path):
    path = tmp_path / "row.json"
    path.write_text('{"embedding": [0.5, 1.5, 2.5]}')
    source = jsonl.read(path, DataConfig.model_validate({"path": str(path)}))
    assert [table.rows.num_rows for table in source.tables()] == [1]
