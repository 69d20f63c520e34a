"""Text that may be numbers, and what else it may be."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_MONTH = r"(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_TIME = r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[APap]\.?[Mm]\.?)?"
_DATE = (
    r"^(?:[A-Z][a-z]+,? )?"  # the day of the week
    rf"(\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{4}}[-/]\d{{2}}|\d{{1,2}}[-/.]\d{{1,2}}[-/.](\d{{4}}|\d{{2}})"
    rf"|\d{{1,2}}[ -]{_MONTH}[ ,-]+\d{{2,4}}|{_MONTH} \d{{1,2}},? \d{{4}}"
    r"|\d{1,2}\.? (?:de )?\pL{3,}\.?,? (?:de )?\d{4}|\d{4}年\d{1,2}月\d{1,2}日)"
    rf"([ T]{_TIME}.*)?$"
    rf"|^{_TIME}$"
)
_MONEY = r"(?:[$€£¥₹]|R\$|Rs\.?|kr\.?|USD|EUR|GBP|JPY|CNY|INR|CHF|SEK|NOK|DKK|PLN|BRL|CAD|AUD)"
# 1,234.5 or 12 % or 1.2D+03 or −1.5, whose minus is typeset; −$5, EUR 5, (5), <5, 5*; 5 ± 1; ٣;
# 0x1f; 3.2 kg.
_DRESSED = (
    rf"^(?:[<>≤≥~≈]=?\s?)?[+−-]?\(?{_MONEY}?\s?[+−-]?"
    r"(\d{1,3}([,.' _]\d{3})+|\d+|[.,]\d)([.,]\d*)?([eEdD][+−-]?\d+)?"
    rf"\s?(%|{_MONEY})?\)?\*?$"
    r"|^[+−-]?\d+([.,]\d+)?\s?±\s?\d+([.,]\d+)?$"
    r"|^[+−-]?\p{Nd}+([.,٫]\p{Nd}+)?$"
    r"|^0[xX][0-9a-fA-F]+$|^[+−-]?\d+([.,]\d+\s?| )[a-zA-Zµ°Ω/²³]{1,5}$"
)
_CODE = r"^\s*0\d+\s*$"


class Parsed(NamedTuple):
    """Text read as numbers.

    Attributes:
      numbers: NaN where a value is missing or is none.
      missing: where the text says that there is no value.
      bad: where the text is something else, or no finite float64.
    """

    numbers: Floats
    missing: Mask
    bad: Mask


def parse(text: pa.ChunkedArray, missing_values: tuple[str, ...], decimal: str = ".") -> Parsed:
    """Reads a column of text as numbers."""
    if decimal == "." and not text.null_count:
        try:  # nearly all columns of numbers
            numbers = text.cast(pa.float64()).to_numpy()
        except pa.ArrowInvalid:
            pass
        else:
            if np.isfinite(numbers).all():
                nothing = np.zeros(len(numbers), bool)
                return Parsed(numbers, nothing, nothing)
    text = blank(text, missing_values)
    missing = text.is_null().to_numpy(zero_copy_only=False)
    if decimal != ".":
        text = pc.replace_substring(text, decimal, ".")
    good = pc.match_substring_regex(text, _NUMBER)
    numbers = pc.if_else(good, text, None).cast(pa.float64()).to_numpy(zero_copy_only=False)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    return Parsed(numbers, missing, ~missing & np.isnan(numbers))


def blank(text: pa.ChunkedArray, missing_values: tuple[str, ...]) -> pa.ChunkedArray:
    """Text without spaces around it; null where it says that there is no value."""
    text = pc.utf8_trim_whitespace(text.cast(pa.string()))
    absent = pc.is_in(text, pa.array(missing_values, pa.string()))
    return pc.if_else(absent, pa.scalar(None, pa.string()), text)


def dates(text: pa.ChunkedArray) -> Mask:
    """Where text looks like a date or a time of day."""
    return _matches(text, _DATE)


def dressed_numbers(text: pa.ChunkedArray) -> Mask:
    """Where text is a number for people: with separators of thousands, a currency, a unit."""
    return _matches(text, _DRESSED)


def codes(text: pa.ChunkedArray) -> Mask:
    """Where text is a number with zeros before it, as 01234."""
    return _matches(text, _CODE)


def day_numbers(numbers: Floats) -> Mask:
    """Where a number is a day, as 20261126."""
    year, rest = np.divmod(np.nan_to_num(numbers), 10000)
    month, day = np.divmod(rest, 100)
    inside = (year >= 1800) & (year < 2200) & (month >= 1) & (month <= 12)
    found: Mask = inside & (day >= 1) & (day <= 31) & (day == np.round(day))
    return found


def alike(names: Iterable[str]) -> list[str]:
    """Names that look the same but for case, spaces or zeros: ``No/no``."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_seen_as(name), []).append(name)
    return ["/".join(group) for group in groups.values() if len(group) > 1]


def as_number(text: str) -> float | None:
    """The finite number that a text is, or None."""
    if any(c not in "0123456789+-.eE" for c in text):
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _seen_as(name: str) -> str:
    """A number by its value; text composed, without case, characters of no width, a last point."""
    if name.isdecimal():
        return name.lstrip("0") or "0"  # beyond 2^53 too
    number = as_number(name)
    if number is not None:
        return str(int(number)) if number == int(number) else repr(number)
    plain = unicodedata.normalize("NFKC", name).casefold()
    shown = "".join(c for c in plain if unicodedata.category(c) != "Cf")
    return " ".join(shown.split()).rstrip(".")


def _matches(text: pa.ChunkedArray, pattern: str) -> Mask:
    found = pc.match_substring_regex(text, pattern)
    mask: Mask = pc.fill_null(found, False).to_numpy(zero_copy_only=False)
    return mask
