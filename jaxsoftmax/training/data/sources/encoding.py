"""The encoding of a text, guessed from its first bytes where nothing says it."""

from __future__ import annotations

import itertools
import re
import unicodedata
from pathlib import Path

from jaxsoftmax.training.errors import InputError

WIDE = ("utf-16", "utf-16-le", "utf-16-be", "utf-32")  # in which a space is more than a byte
WESTERN = "cp1252"
OTHERS = (
    *("cp1251", "koi8-r", "gbk", "big5", "shift_jis", "euc_jp", "euc_kr"),
    *("cp1250", "cp1253", "cp1255", "cp1256", "cp874"),
)
SHOWN = 6

_BEYOND_ASCII = re.compile(rb"[\x80-\x9f\xa1-\xff]+")  # a no-break space is in any text
_FIELD = re.compile(rb"[^\s,;|\"]*[\x80-\xff][^\s,;|\"]*")


def encoding_of(path: Path, raw: bytes) -> str:
    """The encoding: a Unicode one, or cp1252 where the text can be Western.

    Raises:
      InputError: it is neither; the message has a word in the encodings that it may be of.
    """
    if raw.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    zeros = raw[:1000].count(0)
    if zeros * 3 > len(raw[:1000]):
        return "utf-16-le" if raw[1:2] == b"\0" else "utf-16-be"
    if zeros:
        raise InputError(f"{path}: has NUL characters; it is no text")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(raw) - 4:
            if not _is_western(raw):
                raise InputError(f"{path}: {_advice(raw, error.start)}") from None
            return WESTERN
    return "utf-8"


def _is_western(raw: bytes) -> bool:
    """Of a Western text letters beyond ASCII stand alone or in pairs; of others, in words."""
    runs = set(_BEYOND_ASCII.findall(raw))
    long = sum(len(run) > 2 for run in runs)
    return _decoded(raw, WESTERN) is not None and 2 * long < max(1, len(runs))


def _advice(raw: bytes, start: int) -> str:
    word = max(_FIELD.findall(raw), key=lambda field: len(_BEYOND_ASCII.findall(field)[0]))[:24]
    readings: dict[str, str] = {}
    for encoding in OTHERS:
        text = _decoded(word, encoding)
        if text and _decoded(raw, encoding) and _is_a_word(text):
            readings.setdefault(text, encoding)
    shown = [f'"{encoding}" reads {text!r}' for text, encoding in readings.items()][:SHOWN]
    of_word = f": {', '.join(shown)}" if shown else ""
    return f"is neither UTF-8 (byte {start}) nor Western text; write [data] encoding{of_word}"


def _is_a_word(text: str) -> bool:
    """Whether letters are of one script, and none that is small comes before a large one."""
    letters = [c for c in text if c.isalpha()]
    scripts = {_script(c) for c in letters}
    cased = any(a.islower() and b.isupper() for a, b in itertools.pairwise(text))
    known = all(c.isalnum() or c in "_-()./ " or unicodedata.combining(c) for c in text)
    return known and len(scripts) == 1 and "HALFWIDTH" not in scripts and not cased


def _script(letter: str) -> str:
    first = re.split("[ -]", unicodedata.name(letter, "?"))[0]
    return "CJK" if first in ("HIRAGANA", "KATAKANA") else first  # which Japanese mixes


def _decoded(raw: bytes, encoding: str) -> str | None:
    """The text, whose last character may be cut; None if it is none in that encoding."""
    for cut in (0, 1, 2):
        try:
            return raw[: len(raw) - cut].decode(encoding)
        except UnicodeDecodeError:
            continue
    return None
