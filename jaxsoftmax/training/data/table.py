"""Rows as they were read: named columns of equal length, before anything is made of them."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa


class Table(NamedTuple):
    """Some rows of a source, typed by it: numbers, booleans, text, times, or vectors of numbers.

    Attributes:
      rows: the columns by name; a missing value is null.
      origin: what messages call the source, mostly a path.
      first: the number of the first row within the source, from 0.
    """

    rows: pa.Table
    origin: str
    first: int = 0
