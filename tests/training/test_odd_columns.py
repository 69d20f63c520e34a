"""Columns, classes and weights that look like something else: read as meant, said, or refused."""

import decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from jaxsoftmax.training.data import Table
from tests.training.odd_files import (
    COUNT,
    ROWS,
    SHUFFLED,
    Odd,
    X,
    Y,
    arrow,
    complaint,
    csv,
    dropping,
    exact,
    noting,
    of_people,
    plain,
    prepared,
    right,
)

pytestmark = pytest.mark.once

PEOPLE = "FILE: column 'c': looks like numbers written for people, as '"
MARKS = "FILE: column 'c': expected a number, got '"
DATES = "FILE: column 'c': holds dates or times, "
SIZES = np.random.default_rng(1).permutation(400)  # enough for classes that come twice
QUANTITY = "FILE: 'y' looks like a quantity: "
SCALED = X[:, 0] * 1e-200


def parquet(**columns) -> bytes:
    return arrow(pyarrow.parquet.write_table, **columns)


def scaled(dataset) -> bool:
    """A feature whose squares are 0 in float64 is as good as any other."""
    column = dataset.columns.columns[0]
    values = dataset.features[:, 0].astype(np.float64)
    return 0.1 < np.std(values) < 10 and np.allclose(
        values * column.scale + column.mean, SCALED[dataset.rows], atol=1e-205, rtol=0
    )


NUMBERS = [
    ("money", [f"EUR {n}.5" for n in SHUFFLED]),
    ("debts", [f"-${n}.5" for n in SHUFFLED]),
    ("brackets", [f"({n}.5)" for n in SHUFFLED]),
    ("stars", [f"{n}.5*" if n % 2 else f"{n}.5" for n in SHUFFLED]),
    ("limits", [f"<{n}.5" if n % 2 else f"{n}.5" for n in SHUFFLED]),
    ("errors", [f"{n}.5 ± 0.1" for n in SHUFFLED]),
    ("arabic", ["".join(chr(0x660 + int(d)) for d in str(n)) for n in SHUFFLED]),
    ("wide", ["".join(chr(0xFF10 + int(d)) for d in str(n)) for n in SHUFFLED]),
]
MARKED = [
    ("dashes", ["-" if n % 3 == 0 else f"{n}.5" for n in SHUFFLED]),
    ("mostly_unknown", ["unknown" if n % 5 < 2 else f"{n}" for n in SHUFFLED]),
    ("two_words", [["none", "low", f"{n}.5"][min(n % 5, 2)] for n in SHUFFLED]),
]
DAYS = [
    ("german", [f"{n}. März 2026" for n in COUNT]),
    ("spanish", [f"{n} de noviembre de 2026" for n in COUNT]),
    ("chinese", [f"2026年11月{n}日" for n in COUNT]),
]
CASES = [
    *(Odd(f"{name}.csv", csv(plain(c=c)), PEOPLE) for name, c in NUMBERS),
    *(Odd(f"{name}.csv", csv(plain(c=c)), MARKS) for name, c in MARKED),
    *(Odd(f"{name}.csv", csv(plain(c=c)), DATES) for name, c in DAYS),
    Odd("euros.csv", csv(plain(c=[f"{n} EUR" for n in SHUFFLED])), of_people(f"{SHUFFLED[0]} EUR")),
    Odd("levels.csv", csv(plain(c=["-", "1", "2"] * 8)), right("a", "b", "c=-", "c=1", "c=2")),
    Odd("tiny.csv", csv(plain(a=SCALED)), scaled),
    Odd(
        "yes_no.csv", csv(plain(c=["Yes", "yes", "no"] * 8)), noting("of 'c' that may be one: Yes/")
    ),
    Odd(
        "index.parquet",
        parquet(**plain(), __index_level_0__=SHUFFLED),
        dropping("__index_level_0__", "it has no name"),
    ),
    Odd("decimals.parquet", parquet(**plain(a=[decimal.Decimal(f"{x}") for x in X[:, 0]])), exact),
    Odd(
        "no_vectors.parquet",
        parquet(**plain(e=pa.array([[]] * ROWS, pa.list_(pa.float64())))),
        "FILE: column 'e': holds no numbers; write [columns] drop = [\"e\"]",
    ),
    Odd(
        "no_vector.parquet",
        parquet(e=[None, *X[1:].tolist()], y=Y),
        "FILE: column 'e': 'no vector' at row 0 (1 such rows); the first has 2",
    ),
    Odd(
        "nulls.parquet",
        parquet(**plain(e=pa.array([None] * ROWS, pa.list_(pa.float64())))),
        "FILE: column 'e': holds no numbers; write [columns] drop = [\"e\"]",
    ),
    # --- classes
    Odd("composed.csv", csv(plain(y=["é", "e\u0301", "o"] * 8)), noting("may be one: e\u0301/é")),
    Odd("invisible.csv", csv(plain(y=["cat", "\u200bcat", "o"] * 8)), noting("may be one: cat/")),
    Odd("spaces.csv", csv(plain(y=["a b", "a  b", "o"] * 8)), noting("may be one: a  b/a b")),
    Odd("point.csv", csv(plain(y=["<=50K", "<=50K.", "o"] * 8)), noting("one: <=50K/<=50K.")),
    Odd("keys.parquet", parquet(**plain(y=2**63 + COUNT.astype("u8") % 3)), noting()),
    Odd(
        "names.csv",
        csv(plain(y=[f"user{n:02}" for n in COUNT])),
        "FILE: 'y' has another value in each row, as 'user01', and a class needs rows to learn "
        "from; name the column of the class in [data] label",
    ),
    *(
        Odd(
            f"{name}.csv",
            csv({"a": SIZES, "y": [form.format(n // 2 / 10) for n in SIZES]}),
            QUANTITY,
        )
        for name, form in (("weights", "{} kg"), ("prices", "${}"), ("shares", "{} %"))
    ),
    Odd("doses.csv", csv(plain(y=["5 mg", "10 mg", "20 mg"] * 8)), noting()),
    # --- weights
    Odd(
        "no_weight.csv",
        csv(plain(w=[0] * ROWS)),
        "FILE: the weights of the train part sum to 0; expected a sum between 1e-30 and 1e+30: "
        "leave [data] weights out, or scale them",
        {"weights": "w"},
    ),
    Odd(
        "beyond_float32.csv",
        csv(plain(w=["1e39", "1", "2"] * 8)),
        "FILE: line 2: expected a weight from 0 to 3e38, got '1e39' (8 such rows)",
        {"weights": "w"},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_odd_column(case, tmp_path):
    assert complaint(case, tmp_path) == ""


@pytest.mark.parametrize(
    "numbers",
    [
        pa.array([decimal.Decimal(f"{x}") for x in X[:, 0]]),
        pa.array(X[:, 0].astype(np.float16)),
        pa.array(COUNT.astype("u8")),
        pa.array(X[:, 0]).dictionary_encode(),
    ],
    ids=lambda array: str(array.type),
)
def test_what_trains_can_be_predicted(numbers, tmp_path):
    """Each type of a column of numbers means the same when rows come again."""
    table = pa.table({"c": numbers, "b": X[:, 1], "y": Y})
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(table, path)
    dataset = prepared(path)
    again = dataset.columns.encode(Table(table, "t"))
    assert again.complaint is None
    assert np.array_equal(again.features[dataset.rows], dataset.features)
