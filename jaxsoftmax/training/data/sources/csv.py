"""Delimited text: pyarrow parses; what it must be told is guessed here from the first lines.

All columns stay text. What they are is decided later, from all rows and not from a sample.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv

from jaxsoftmax.training.config.keys import DataConfig
from jaxsoftmax.training.data.table import Source, Table
from jaxsoftmax.training.errors import InputError

from .aligned import single_spaced, single_spaced_file
from .encoding import encoding_of
from .guard import sentences
from .packed import unpacked

HEAD = 1 << 18  # bytes that guesses are made from
BLOCK = 1 << 24  # bytes at a time
LINES_SHOWN = 3
UNNAMED = "Unnamed: "  # and the number of a column whose header is empty
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}

_NUMBER = re.compile(r"\s*[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*", re.ASCII)
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*", re.ASCII)
_FOR_SPREADSHEETS = re.compile(r'"?sep=."?\s*')
_FRACTION = re.compile(r"\s*[+-]?\d*[.,]\d+\s*", re.ASCII)


class Dialect(NamedTuple):
    """How a file of delimited text is written."""

    encoding: str
    delimiter: str
    decimal: str
    header: bool
    names: tuple[str, ...]
    quote: str = '"'
    row_names: bool = False
    blank: int = 0  # lines before the first that says something
    aligned: bool = False  # by several spaces


def read(path: Path, data: DataConfig) -> Source:
    """A file of delimited text; a packed one is unpacked on the way."""
    dialect = sniff(path, data)
    guesses = []
    if data.encoding is None and dialect.encoding != "utf-8":
        guesses.append(f"read as {dialect.encoding}")
    if data.delimiter is None and dialect.delimiter != ",":
        guesses.append(f"fields between {DELIMITERS.get(dialect.delimiter, 'spaces')}")
    if data.decimal is None and dialect.decimal != ".":
        guesses.append("decimal commas")
    if data.header == "auto" and not dialect.header:
        guesses.append("no header: columns are numbered from 0")
    if dialect.row_names:
        guesses.append("rows have a field more than the header: the first is the name of the row")
    return Source(f"{path}", lambda: _tables(path, dialect), None, tuple(guesses))


def sniff(path: Path, data: DataConfig) -> Dialect:
    """What the first lines say, where the config does not."""
    with sentences(path), unpacked(path) as file:
        raw = file.read(HEAD)
    encoding = data.encoding or encoding_of(path, raw)
    text = _decoded(path, raw, encoding)
    if not text.strip():
        raise InputError(f"{path}: is empty")
    if "\0" in text:
        raise InputError(f"{path}: has NUL characters; it is no text, or of another encoding")
    lines = text.splitlines(keepends=True)
    if len(raw) == HEAD and len(lines) > 1:
        lines = lines[:-1]  # cut somewhere
    blank = next((number for number, line in enumerate(lines) if line.strip()), 0)
    lines = lines[blank:]
    if _FOR_SPREADSHEETS.fullmatch(lines[0]):
        raise InputError(
            f"{path}: line {blank + 1}, '{lines[0].strip()}', is for spreadsheets; delete it"
        )
    delimiter = data.delimiter or ("\t" if _is_tsv(path) else _delimiter(lines))
    quote = _quote(lines, delimiter)
    rows = _rows(path, lines, delimiter, quote)
    if not rows:
        raise InputError(f"{path}: has no rows")
    aligned = delimiter == " " and not _is_regular(rows)
    if aligned:
        rows = _rows(path, list(map(single_spaced, lines)), delimiter, quote)
    decimal = data.decimal or _decimal(rows)
    header = _has_header(rows, data) if data.header == "auto" else data.header
    names = _names(path, rows, header=header)
    row_names = len(names) > len(rows[0]) and names[0] == f"{UNNAMED}0"
    return Dialect(encoding, delimiter, decimal, header, names, quote, row_names, blank, aligned)


def _tables(path: Path, dialect: Dialect) -> Iterator[Table]:
    bad: list[tuple[int, int]] = []

    def refuse(row: pa.csv.InvalidRow) -> str:
        bad.append((row.expected_columns, row.actual_columns))
        return "skip"

    convert = pyarrow.csv.ConvertOptions(
        column_types={name: pa.string() for name in dialect.names},
        strings_can_be_null=False,
        quoted_strings_can_be_null=False,
    )
    parse = pyarrow.csv.ParseOptions(
        delimiter=dialect.delimiter,
        quote_char=dialect.quote,
        newlines_in_values=True,
        invalid_row_handler=refuse,
    )
    options = pyarrow.csv.ReadOptions(
        block_size=BLOCK,
        column_names=list(dialect.names),
        skip_rows=dialect.blank,
        skip_rows_after_names=int(dialect.header),  # a row, which may have line breaks in quotes
        encoding=dialect.encoding,
    )

    def place(row: int) -> str:
        return f"line {line_of(path, dialect, row)}"

    first = 0
    with sentences(path):
        try:
            with (
                _opened(path, dialect) as file,
                pyarrow.csv.open_csv(file, options, parse, convert) as batches,
            ):
                for batch in batches:
                    if bad:
                        break
                    rows = pa.Table.from_batches([batch])
                    if dialect.decimal != ".":
                        metadata = {"decimal": dialect.decimal}
                        rows = rows.replace_schema_metadata(metadata)
                    yield Table(rows, f"{path}", first, place)
                    first += batch.num_rows
        except pa.ArrowInvalid as error:
            raise _explained(path, dialect, error) from None
    if bad:
        raise _ragged(path, dialect)
    if not first:
        raise InputError(f"{path}: has a header and no rows")
    _check_quotes(path, dialect)


def _opened(path: Path, dialect: Dialect) -> Any:
    """What the parsers read; lines are where they are in the file."""
    return single_spaced_file(path) if dialect.aligned else unpacked(path)


def _check_quotes(path: Path, dialect: Dialect) -> None:
    """A quote that is never closed would make one field of the rest of the file."""
    with unpacked(path) as file:
        blocks = iter(lambda: file.read(BLOCK), b"")
        quotes = sum(block.count(dialect.quote.encode()) for block in blocks)
    if quotes % 2 == 0:
        return
    try:
        for _ in _numbered(path, dialect, strict=True):
            pass
    except csv.Error as error:
        if "end of data" in str(error):
            last = max((number for number, _ in _numbered(path, dialect)), default=1)
            raise InputError(f"{path}: line {last}: a quote is opened and never closed") from None


def line_of(path: Path, dialect: Dialect, row: int) -> int:
    """The line on which a row begins."""
    for number, (line, _) in enumerate(_numbered(path, dialect)):
        if number == row:
            return line
    return 0


def _numbered(
    path: Path, dialect: Dialect, *, strict: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line on which it begins, by the slower reader that counts lines."""
    with _opened(path, dialect) as stream:
        text = io.TextIOWrapper(stream, dialect.encoding, errors="replace", newline="")
        for _ in range(dialect.blank):
            next(text)
        reader = csv.reader(
            text, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=strict
        )
        line, header = 1 + dialect.blank, dialect.header
        for row in reader:
            if row and not header:
                yield line, row
            header = header and not row
            line = 1 + dialect.blank + reader.line_num


def _ragged(path: Path, dialect: Dialect) -> InputError:
    wanted = len(dialect.names)
    bad = [(line, len(row)) for line, row in _numbered(path, dialect) if len(row) != wanted]
    shown = ", ".join(f"line {line} has {count}" for line, count in bad[:LINES_SHOWN])
    more = f" and {len(bad) - LINES_SHOWN} more lines are like that" if len(bad) > 3 else ""
    advice = ""
    if dialect.delimiter == " ":
        advice = "; where fields are empty, or have spaces in them, put another delimiter between"
    elif len({count for _, count in bad}) == 1 and len(bad) > LINES_SHOWN:
        advice = "; if it is a title or a comment, delete it"
    return InputError(f"{path}: {shown} fields, the first line has {wanted}{more}{advice}")


def _explained(path: Path, dialect: Dialect, error: Exception) -> InputError:
    text = str(error)
    if "UTF8" in text or "utf8" in text.lower():
        return InputError(
            f'{path}: is not {dialect.encoding} text; write [data] encoding = "cp1252" '
            f"or what it was written in"
        )
    if "column" in text.lower() and "expected" in text.lower():
        return _ragged(path, dialect)
    return InputError(f"{path}: is damaged or of another kind: {text.splitlines()[0][:200]}")


def _decoded(path: Path, raw: bytes, encoding: str) -> str:
    try:
        text = raw.decode(encoding, errors="ignore" if len(raw) == HEAD else "strict")
    except LookupError:
        raise InputError(f"{path}: there is no encoding named '{encoding}'") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not {encoding} text (byte {error.start})") from None
    return text.removeprefix("\ufeff")


def _is_tsv(path: Path) -> bool:
    return any(suffix.lower() in (".tsv", ".tab") for suffix in path.suffixes)


def _delimiter(lines: Sequence[str]) -> str:
    """The one that gives the same number of fields, above 1, on most lines.

    Where this is so of a delimiter and of runs of spaces, the runs count if most lines have them.
    """
    mostly_aligned = 2 * sum("  " in line for line in lines) > len(lines)

    def agreement(delimiter: str) -> tuple[float, bool, int]:
        some = lines[:200] if delimiter != " " else list(map(single_spaced, lines[:200]))
        quote = _quote(some, delimiter)
        counts = [len(row) for row in csv.reader(some, delimiter=delimiter, quotechar=quote) if row]
        usual = max(set(counts), key=counts.count)
        share = counts.count(usual) / len(counts) if usual > 1 else 0.0
        return share, delimiter != " " or mostly_aligned, usual

    candidates = [*DELIMITERS, " "] if "," not in lines[0] else list(DELIMITERS)
    try:
        scores = {delimiter: agreement(delimiter) for delimiter in candidates}
    except (csv.Error, ValueError):
        return ","
    return max(scores, key=lambda delimiter: scores[delimiter])


def _is_regular(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows have the same number of fields, above 1, and every column a value somewhere."""
    (number, *others) = set(map(len, rows))
    return number > 1 and not others and all(map(any, zip(*rows, strict=True)))


def _quote(lines: Sequence[str], delimiter: str) -> str:
    """A ' where it stands around all names, or around a field of most lines and no " is there."""
    between = re.escape(delimiter)
    field = re.compile(rf"(?:^|(?<={between}))\s*'[^']*'\s*(?={between}|$)")
    quoted = [len(field.findall(line.rstrip("\r\n"))) for line in lines]
    names = lines[0].count(delimiter) + 1 if lines else 0
    most = 2 * sum(map(bool, quoted)) > len(lines) and not any('"' in line for line in lines)
    return "'" if most or quoted[:1] == [names] else '"'


def _rows(path: Path, lines: Sequence[str], delimiter: str, quote: str) -> list[list[str]]:
    if len(delimiter) != 1:
        raise InputError(f"{path}: a delimiter is one character, got {delimiter!r}")
    try:
        return [row for row in csv.reader(lines, delimiter=delimiter, quotechar=quote) if row]
    except csv.Error as error:
        raise InputError(f"{path}: is not delimited text: {error}") from None


def _decimal(rows: Sequence[Sequence[str]]) -> str:
    """A comma where there are more of them than points, and not all are those of thousands."""
    fields = [field for row in rows[1:200] for field in row if _NUMBER.fullmatch(field)]
    commas = [field for field in fields if _DECIMAL_COMMA.fullmatch(field)]
    points = sum("." in field for field in fields)
    sure = not all(_THOUSANDS.fullmatch(field) for field in commas)
    return "," if sure and len(commas) > points else "."


def _has_header(rows: Sequence[Sequence[str]], data: DataConfig) -> bool:
    """Whether the first line names the columns: it has the label, or holds no number."""
    first = _stripped(rows[0])
    if isinstance(data.label, str) and data.label in first:
        return True
    below = [{row[i].strip() for row in rows[1:] if i < len(row)} for i in range(len(first))]
    if 2 * sum(field in seen for field, seen in zip(first, below, strict=True)) > len(first):
        return False  # what stands here stands below too
    if any(_NUMBER.fullmatch(field) for field in first):
        return len(rows) > 1 and _counts(first)
    numeric = any(_NUMBER.fullmatch(field) for row in rows[1:20] for field in row)
    return numeric or len(rows) == 1 or all(first != list(row) for row in rows[1:20])


def _stripped(names: Sequence[str]) -> list[str]:
    """Names without spaces, and without the mark that NumPy puts before a header."""
    stripped = [name.strip() for name in names]
    return [stripped[0].removeprefix("#").strip(), *stripped[1:]]


def _counts(first: Sequence[str]) -> bool:
    """Whether names are the numbers 0, 1, 2, …, as pandas writes those of an array."""
    numbers = [field for field in first if field.isdigit()]
    return len(numbers) >= len(first) - 1 and [int(n) for n in numbers] == list(range(len(numbers)))


def _names(path: Path, rows: Sequence[Sequence[str]], *, header: bool) -> tuple[str, ...]:
    if not header:
        return tuple(str(i) for i in range(len(rows[0])))
    names = _stripped(rows[0])
    counts = {len(row) for row in rows[1:]}
    if counts == {len(names) + 1}:
        empty = all(not row[-1].strip() for row in rows[1:])
        names = [*names, ""] if empty else ["", *names]  # a delimiter too many, or R's row names
        if not empty:
            _check_row_names(path, [row[0] for row in rows[1:]])
    named = [name for name in names if name]
    repeated = sorted({name for name in named if named.count(name) > 1}) if _repeats(named) else []
    if repeated:
        raise InputError(f"{path}: the header repeats {', '.join(map(repr, repeated[:8]))}")
    return tuple(name or f"{UNNAMED}{i}" for i, name in enumerate(names))


def _check_row_names(path: Path, found: Sequence[str]) -> None:
    """Row names differ and are no measurements; else a delimiter stands in a field of each row."""
    if len(set(found)) < len(found) or any(_FRACTION.fullmatch(name) for name in found):
        raise InputError(
            f"{path}: rows have a field more than the header, and the first is no name of the row, "
            f"as in {found[0]!r}; put fields that have a delimiter in quotes"
        )


def _repeats(names: Sequence[str]) -> bool:
    return len(set(names)) < len(names)
