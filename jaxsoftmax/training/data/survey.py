"""One look at all rows: what each column is, and everything that is wrong with it."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaxsoftmax.training.config.keys import ColumnsConfig, Name
from jaxsoftmax.training.errors import InputError

from . import values
from .table import Table

Kind = Literal["number", "text", "vector", "date", "other"]

SOME_BAD = 0.1  # of the values: a column of numbers with mistakes, and no column of text
PROBLEMS_SHOWN = 20
FEWEST_ROWS_TO_COUNT = 5
FEWEST_NAMES = 10
MOST_MARKS = 3  # words among numbers that stand for no value
MOST_LEVELS = 10  # numbers in the dress of text that are levels, and one-hot like other text
FEWEST_IDENTIFIERS = 30
MOST_IDENTIFIERS = 1 << 20
NAMES_SHOWN = 8
_INDEX = re.compile(r"__index_level_\d+__")  # the index of a pandas frame, which has no name
LOOKED_AT = 1000  # values of a table, for zeros before a number


class Columned(NamedTuple):
    """What becomes of the columns of a source.

    Attributes:
      kinds: of the columns that are features, in order.
      dropped: those that are not, each with the reason.
      vectors: the length of the vectors of each vector column.
      rows: in the source.
      notes: what may not be meant, for people.
    """

    kinds: dict[str, Kind]
    dropped: dict[str, str]
    vectors: dict[str, int]
    rows: int
    notes: tuple[str, ...] = ()


class _Seen:
    """What is known of one column so far."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.known = self.bad = self.dates = self.dressed = 0
        self.first_bad: tuple[str, str] | None = None
        self.values: set[str] = set()
        self.marks: set[str] = set()  # values that are no numbers, as long as they are few
        self.width: int | None = None
        self.counting = True
        self.start = 0.0
        self.low, self.high = np.inf, -np.inf
        self.identifiers: values.Floats | None = np.empty(0)  # while no whole number comes twice
        self.codes = False


def survey(
    tables: Iterable[Table], config: ColumnsConfig, roles: Sequence[str], origin: str
) -> Columned:
    """Decides the columns from all rows.

    Args:
      tables: all rows.
      config: what the user wants of them.
      roles: columns that are label, weights or decide the split, and so no features.
      origin: for messages.

    Raises:
      InputError: with every problem of the file, a line each.
    """
    seen: dict[str, _Seen] = {}
    wanted: list[str] = []
    categorical: set[str] = set()
    dropped: dict[str, str] = {}
    rows = 0
    for table in tables:
        if not seen:
            names = table.rows.column_names
            wanted, dropped = _wanted(names, config, roles, origin)
            categorical = set(_matched(config.categorical, names, origin, "categorical"))
            seen = {name: _Seen(kind_of(table.rows.schema.field(name).type)) for name in wanted}
        for name in wanted:
            _look(seen[name], table, name, config)
        rows += table.rows.num_rows
    if not rows:
        raise InputError(f"{origin}: has no rows")
    kinds, problems = {}, []
    for name in wanted:
        kind, reason, problem = _decide(
            name, seen[name], rows, config, categorical, asked=config.features is not None
        )
        if problem:
            problems.append(f"{origin}: column '{name}': {problem}")
        elif reason:
            dropped[name] = reason
        else:
            kinds[name] = kind
    if problems:
        more = len(problems) - PROBLEMS_SHOWN
        lines = problems[:PROBLEMS_SHOWN] + ([f"{origin}: and {more} more columns"] * (more > 0))
        raise InputError("\n".join(lines))
    if not kinds:
        raise InputError(f"{origin}: no column is left that could be a feature")
    widths = {name: seen[name].width or 0 for name in kinds if seen[name].kind == "vector"}
    numbers = {name: seen[name] for name, kind in kinds.items() if kind == "number"}
    texts = {name: seen[name] for name, kind in kinds.items() if kind == "text"}
    return Columned(kinds, dropped, widths, rows, (*_doubts(numbers, rows), *_lookalikes(texts)))


def typed(table: Table, kinds: dict[str, Kind], config: ColumnsConfig) -> Table:
    """The feature columns of a table: float64, text without spaces, or vectors of one length."""
    columns = {}
    for name, kind in kinds.items():
        column = plain(table.rows[name])
        match kind:
            case "number":
                columns[name] = pa.chunked_array([pa.array(numbers_of(column, table, config))])
            case "text":
                columns[name] = values.blank(column.cast(pa.string()), config.missing_values)
            case _:
                columns[name] = fixed_vectors(column)
    return table._replace(rows=pa.table(columns))


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values instead of their numbers in a dictionary, and text in the usual layout."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string()) if pa.types.is_string_view(column.type) else column


def fixed_vectors(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists as lists of fixed size; they are known to be of one length."""
    if pa.types.is_fixed_size_list(column.type):
        return column
    chunks = []
    for chunk in column.chunks:
        if len(chunk):
            flat = chunk.flatten()
            chunks.append(pa.FixedSizeListArray.from_arrays(flat, len(flat) // len(chunk)))
    return pa.chunked_array(chunks)


def column_named(names: Sequence[str], name: Name, origin: str, key: str) -> str:
    """The column that a config means.

    Raises:
      InputError: there is none.
    """
    if isinstance(name, int):
        if -len(names) <= name < len(names):
            return names[name]
        raise InputError(f"{origin}: {key} = {name}, but there are {len(names)} columns, from 0")
    if name in names:
        return name
    close = difflib.get_close_matches(name, names, n=1)
    there = [repr(column) for column in (close or names[:8])]
    hint = f"; did you mean {there[0]}?" if close else f"; there is {', '.join(there)}"
    numbers = all(column == str(i) for i, column in enumerate(names))
    extra = "; the file has no header, so write the number of the column" if numbers else ""
    if names == ["features"]:
        extra = "; labels of a second file are [data] labels_path"
    elif len(names) == 1:
        extra = "; that is all one column: what stands between fields is [data] delimiter"
    raise InputError(f"{origin}: no column is named '{name}' ([data] {key}){hint}{extra}")


def _wanted(
    names: Sequence[str], config: ColumnsConfig, roles: Sequence[str], origin: str
) -> tuple[list[str], dict[str, str]]:
    chosen = (
        list(names)
        if config.features is None
        else _matched(config.features, names, origin, "features")
    )
    drop = set(_matched(config.drop, names, origin, "drop"))
    wanted = [name for name in chosen if name not in roles and name not in drop]
    dropped = {name: "drop" for name in names if name in drop}
    return wanted, dropped


def _matched(patterns: Sequence[Name], names: Sequence[str], origin: str, key: str) -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        if isinstance(pattern, str) and pattern not in names:
            matches = fnmatch.filter(names, pattern)
        else:
            matches = []
        found += matches or [column_named(names, pattern, origin, key)]
    return list(dict.fromkeys(found))


def kind_of(type_: pa.DataType) -> Kind:
    """What a column of this type may be."""
    types = pa.types
    if types.is_dictionary(type_):
        type_ = type_.value_type
    if types.is_string_view(type_):
        return "text"
    if types.is_fixed_size_list(type_) or types.is_list(type_) or types.is_large_list(type_):
        inner = type_.value_type
        return "vector" if types.is_floating(inner) or types.is_integer(inner) else "other"
    if types.is_floating(type_) or types.is_integer(type_) or types.is_decimal(type_):
        return "number"
    if types.is_string(type_) or types.is_large_string(type_) or types.is_boolean(type_):
        return "text"
    if types.is_null(type_):
        return "text"
    return "date" if types.is_temporal(type_) else "other"


def _look(seen: _Seen, table: Table, name: str, config: ColumnsConfig) -> None:
    column = plain(table.rows[name])
    match seen.kind:
        case "number":
            _look_at_numbers(seen, table, column.cast(pa.float64(), safe=False))
        case "text":
            _look_at_text(seen, table, column, config)
        case "vector":
            _look_at_vectors(seen, table, column)


def _look_at_numbers(seen: _Seen, table: Table, column: pa.ChunkedArray) -> None:
    numbers = column.to_numpy()
    seen.known += int(np.sum(~np.isnan(numbers)))
    infinite = np.isinf(numbers)
    _note_bad(seen, table, infinite, lambda row: str(numbers[row]))
    _measure(seen, table, numbers)


def _look_at_text(
    seen: _Seen, table: Table, column: pa.ChunkedArray, config: ColumnsConfig
) -> None:
    column = column.cast(pa.string())
    parsed = values.parse(column, config.missing_values, decimal_of(table))
    seen.known += int(np.sum(~parsed.missing))
    _measure(seen, table, parsed.numbers)
    seen.codes = seen.codes or bool(values.codes(column.slice(0, LOOKED_AT)).any())
    if len(seen.values) <= config.max_categories or parsed.bad.any():
        text = values.blank(column, config.missing_values)
        _note_bad(seen, table, parsed.bad, lambda row: text[row].as_py())
        if parsed.bad.any():
            if len(seen.marks) <= MOST_MARKS:
                seen.marks |= set(pc.unique(text.filter(pa.array(parsed.bad))).to_pylist())
            seen.dates += int((values.dates(text) & parsed.bad).sum())
            seen.dressed += int((values.dressed_numbers(text) & parsed.bad).sum())
        if len(seen.values) <= config.max_categories:
            seen.values |= set(pc.unique(text).drop_null().to_pylist())


def _look_at_vectors(seen: _Seen, table: Table, column: pa.ChunkedArray) -> None:
    if pa.types.is_fixed_size_list(column.type):
        lengths = np.full(len(column), column.type.list_size)
        lengths[column.is_null().to_numpy()] = -1
    else:
        lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy()
    there = lengths[lengths >= 0]
    if seen.width is None and len(there):
        seen.width = int(there[0])
    told = {-1: "no vector"}
    _note_bad(
        seen,
        table,
        lengths != seen.width,
        lambda row: told.get(lengths[row], f"a vector of length {lengths[row]}"),
    )
    seen.known += len(lengths)
    flat = pc.list_flatten(column)
    finite = flat.null_count == 0 and bool(
        pc.all(pc.is_finite(flat.cast(pa.float64(), safe=False))).as_py() in (True, None)
    )
    if not finite and seen.width:
        wide = flat.cast(pa.float64(), safe=False).to_numpy().reshape(len(column), -1)
        rows = ~np.isfinite(wide).all(axis=1)
        _note_bad(seen, table, rows, lambda row: "a vector with NaN or infinity")


def decimal_of(table: Table) -> str:
    """What stands between the whole and the fraction of numbers in the text of a table."""
    return ((table.rows.schema.metadata or {}).get(b"decimal") or b".").decode()


def _note_bad(seen: _Seen, table: Table, bad: values.Mask, tell: Callable[[int], str]) -> None:
    if bad.any():
        if seen.first_bad is None:
            row = int(np.argmax(bad))
            seen.first_bad = table.where(row), str(tell(row))[:80]
        seen.bad += int(bad.sum())


def _measure(seen: _Seen, table: Table, numbers: values.Floats) -> None:
    """Range, days, identifiers, and whether the numbers count the rows."""
    _count(seen, table, numbers)
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return
    seen.low, seen.high = min(seen.low, known.min()), max(seen.high, known.max())
    if not seen.bad:
        seen.dates += int(values.day_numbers(known).sum())
    if seen.identifiers is not None:
        seen.identifiers = _distinct(seen.identifiers, known)


def _distinct(before: values.Floats, more: values.Floats) -> values.Floats | None:
    """All of them, if each is a whole number that comes once."""
    count = len(before) + len(more)
    if count > MOST_IDENTIFIERS or not np.array_equal(more, np.round(more)):
        return None
    found = np.unique(np.concatenate([before, more]))
    return found if len(found) == count else None


def _count(seen: _Seen, table: Table, numbers: values.Floats) -> None:
    """Goes on counting, while the column is the number of the row from somewhere."""
    if not seen.counting or not len(numbers):
        return
    if table.first == 0:
        seen.start = float(numbers[0])
    expected = seen.start + table.first + np.arange(len(numbers))
    seen.counting = bool(np.array_equal(numbers, expected))


def _decide(
    name: str,
    seen: _Seen,
    rows: int,
    config: ColumnsConfig,
    categorical: set[str],
    *,
    asked: bool,
) -> tuple[Kind, str | None, str | None]:
    """The kind of a column, or why it is left out, or what is wrong with it."""
    kind = seen.kind
    if kind in ("other", "date", "vector"):
        return kind, None, _unfit(name, seen)
    if name in categorical:
        return "text", None, None
    if not seen.known:
        return kind, "no row has a value", None
    if kind == "text" and seen.bad:
        return _decide_text(name, seen, rows, config, asked=asked)
    if seen.bad:
        return kind, None, f"{_bad(seen)} is not finite ({seen.bad} such rows)"
    if not asked and seen.dates == seen.known >= FEWEST_ROWS_TO_COUNT:
        return kind, None, _date_advice(name, ".astype(str)")
    if not asked and seen.counting and rows >= FEWEST_ROWS_TO_COUNT:
        return "number", "it counts the rows", None
    return "number", "it has no name" if _unnamed(name) and not asked else None, None


def _unfit(name: str, seen: _Seen) -> str | None:
    """What is wrong with a column that is neither numbers nor text."""
    if seen.kind == "other":
        return f'holds neither numbers nor text; write [columns] drop = ["{name}"]'
    if seen.kind == "date":
        return _date_advice(name)
    if seen.width is None or not seen.bad:
        return None if seen.width else f'holds no numbers; write [columns] drop = ["{name}"]'
    told = "expected numbers" if "NaN" in _bad(seen) else f"the first has {seen.width}"
    return f"{_bad(seen)} ({seen.bad} such rows); {told}"


def _decide_text(
    name: str, seen: _Seen, rows: int, config: ColumnsConfig, *, asked: bool
) -> tuple[Kind, str | None, str | None]:
    if seen.dates > 0.9 * seen.known:
        return "date", None, _date_advice(name)
    numbers_and_marks = len(seen.marks) <= MOST_MARKS < MOST_LEVELS < len(seen.values - seen.marks)
    if seen.bad <= SOME_BAD * seen.known or numbers_and_marks:
        return (
            "text",
            None,
            (
                f"expected a number, got {_bad(seen)} ({seen.bad} of {seen.known} rows); "
                f"write [columns] missing_values to read such text as missing, "
                f'or categorical = ["{name}"]'
            ),
        )
    if seen.dressed > 0.9 * seen.bad and len(seen.values) > MOST_LEVELS:
        return (
            "text",
            None,
            (
                f"looks like numbers written for people, as {_bad(seen)}; "
                f"take separators and units out, or write [data] decimal, "
                f'or [columns] categorical = ["{name}"]'
            ),
        )
    if asked:
        return "text", None, None
    if len(seen.values) == 1 and seen.known == rows:
        return "text", "all rows have one value", None
    if len(seen.values) > config.max_categories:
        return "text", f"text with more than {config.max_categories} values", None
    if len(seen.values) == seen.known and seen.known >= FEWEST_NAMES:
        return "text", "text with another value in each row", None
    if _unnamed(name):
        return "text", "it has no name", None
    return "text", None, None


def _doubts(columns: dict[str, _Seen], rows: int) -> list[str]:
    """What is said of numbers that say nothing, or may be names."""
    doubts: dict[str, list[str]] = {}
    for name, seen in columns.items():
        if seen.codes:
            doubt = "zeros before the numbers of {}: if they are codes, write [columns] categorical"
        elif seen.low == seen.high and seen.known == rows:
            doubt = "one value in all rows of {}"
        elif seen.identifiers is not None and len(seen.identifiers) >= FEWEST_IDENTIFIERS:
            doubt = (
                "another whole number in each row of {}: if they are names, write [columns] drop"
            )
        else:
            continue
        doubts.setdefault(doubt, []).append(repr(name))
    return [doubt.format(_listed(names)) for doubt, names in doubts.items()]


def _lookalikes(columns: dict[str, _Seen]) -> list[str]:
    """What is said of text that is written in two ways."""
    pairs = {name: values.alike(sorted(seen.values)) for name, seen in columns.items()}
    return [
        f"values of '{name}' that may be one: {_listed(found)}"
        for name, found in pairs.items()
        if found
    ]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _unnamed(name: str) -> bool:
    return not name or name.startswith("Unnamed:") or bool(_INDEX.fullmatch(name))


def _bad(seen: _Seen) -> str:
    where, what = seen.first_bad or ("", "")
    return f"'{what}' at {where}"


def _date_advice(name: str, as_text: str = "") -> str:
    return (
        f"holds dates or times, and what they should count is yours to say: "
        f'write [columns] drop = ["{name}"], or make a number of it, as in\n'
        f'    table["{name}"] = pandas.to_datetime(table["{name}"]{as_text})\n'
        f'    table["{name}"] = (table["{name}"] - table["{name}"].min()).dt.total_seconds()'
    )


def numbers_of(column: pa.ChunkedArray, table: Table, config: ColumnsConfig) -> values.Floats:
    """A column as numbers; NaN where there is none."""
    if kind_of(column.type) == "number":
        found: values.Floats = column.cast(pa.float64(), safe=False).to_numpy()
        return found
    return values.parse(column.cast(pa.string()), config.missing_values, decimal_of(table)).numbers
