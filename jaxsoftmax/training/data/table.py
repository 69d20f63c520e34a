"""Rows as they were read: named columns of equal length, before anything is made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pyarrow as pa


class Table(NamedTuple):
    """Some rows of a source, as it has typed them: numbers, booleans, text, times, or vectors.

    Attributes:
      rows: the columns by name; a missing value is null.
      origin: what messages call the source, mostly a path.
      first: the number of the first row within the source, from 0.
      place: turns a row's number within the source into words; ``line 7`` for text files.
    """

    rows: pa.Table
    origin: str
    first: int = 0
    place: Callable[[int], str] = "row {}".format

    def where(self, row: int) -> str:
        """The words for a row of this table."""
        return self.place(self.first + row)


class Source(NamedTuple):
    """Something with rows that can be read, from the start, as often as needed.

    Attributes:
      origin: what messages call it.
      tables: reads it, some rows at a time.
      label: the column of the class, where the source itself knows.
      guesses: what was not said and had to be guessed, for people.
      classes: all classes in order, where the source knows of some that no row has.
      sparse: whether most features of most rows are 0.
    """

    origin: str
    tables: Callable[[], Iterator[Table]]
    label: str | None = None
    guesses: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    sparse: bool = False
