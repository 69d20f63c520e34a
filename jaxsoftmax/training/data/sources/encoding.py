"""The encoding of a text, guessed from its first bytes where nothing says it."""

from __future__ import annotations

import itertools
import re
import unicodedata
from pathlib import Path

from jaxsoftmax.training.errors import InputError

WESTERN = "cp1252"
EAST_ASIAN = ("gbk", "big5", "shift_jis", "euc_jp", "euc_kr")
OTHERS = (
    *("cp1251", "koi8-r", *EAST_ASIAN),
    *("cp1250", "cp1253", "cp1255", "cp1256", "cp874", "mac_roman", "cp850"),
)
WORDS, SHOWN, MANY = 20, 6, 6
HALF_WIDTH = set(map(chr, range(0xFF61, 0xFFA0)))  # of one byte
_IN_WORDS = "_-()./%:#&+' "

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
    words = sum(len(set(run)) > 2 for run in runs)  # and not €€€€
    few = 2 * words < max(1, len(runs))
    return few and _text(raw, WESTERN) is not None and not _is_east_asian(raw, runs)


def _is_east_asian(raw: bytes, runs: set[bytes]) -> bool:
    """Whether bytes beyond ASCII, most of them no letters of cp1252, pair with the next throughout.

    µm and °C do as well; what ends a word, or stands before a digit or a space, does not.
    """
    symbols = sum(run[0] < 0xC0 for run in runs)
    texts = [set(_text(raw, encoding) or "") for encoding in EAST_ASIAN]
    pairs = [{c for c in text if not c.isascii()} for text in texts if not text & HALF_WIDTH]
    return 2 * symbols > len(runs) and max(map(len, pairs), default=0) >= MANY


def _advice(raw: bytes, start: int) -> str:
    fields = sorted(set(_FIELD.findall(raw)), key=len, reverse=True)[:WORDS]
    readings: dict[str, str] = {}
    for encoding in OTHERS:
        texts = [_text(field[:24], encoding) for field in fields]
        words = [text for text in texts if text and _is_a_word(text)]
        if 2 * len(words) > len(texts) and _text(raw, encoding) is not None:
            readings.setdefault(words[0], encoding)
    shown = [f'"{encoding}" reads {text!r}' for text, encoding in readings.items()][:SHOWN]
    wrong = f"is neither UTF-8 (byte {start}) nor Western text ({WESTERN})"
    said = ": " + ", ".join(shown) if shown else f' = "{WESTERN}" or what it was written in'
    return f"{wrong}; write [data] encoding{said}"


def _is_a_word(text: str) -> bool:
    """Whether letters are of one script, and none that is small comes before a large one."""
    plain = unicodedata.normalize("NFKC", text)  # of what is written in full width
    scripts = {_script(c) for c in text if c.isalpha()}
    cased = any(a.islower() and b.isupper() for a, b in itertools.pairwise(plain))
    known = all(c.isalnum() or c in _IN_WORDS or unicodedata.combining(c) for c in plain)
    return known and len(scripts) == 1 and not HALF_WIDTH & set(text) and not cased


def _script(letter: str) -> str:
    first = re.split("[ -]", unicodedata.name(letter, "?"))[0]
    return "CJK" if first in ("HIRAGANA", "KATAKANA") else first  # which Japanese mixes


def _text(raw: bytes, encoding: str) -> str | None:
    """The text, whose last character may be cut; None if it is none in that encoding."""
    for cut in (0, 1, 2):
        try:
            return raw[: len(raw) - cut].decode(encoding)
        except UnicodeDecodeError:
            continue
    return None
