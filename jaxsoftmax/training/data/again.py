"""Rows that come to a model in another file."""

from __future__ import annotations

import contextlib

from jaxsoftmax.training.config.keys import DataConfig, Name
from jaxsoftmax.training.errors import InputError

from .columns import Columns
from .sources import open_source
from .table import Source


def open_again(
    path: str, columns: Columns, data: DataConfig | None, label: Name | None = None
) -> Source:
    """A file with rows like those that a model was made from.

    It is read as those were; where that finds no column of the model, as it comes: files of one
    kind of rows need not have one delimiter.

    Args:
      path: The file.
      columns: What the model takes.
      data: How the rows of the model were read, where that is known.
      label: The column of the class, if it is needed.

    Raises:
      InputError: There is no such file, or it is of a kind that is not read.
    """
    as_it_comes = DataConfig.model_validate({"path": path, "label": label})
    as_it_was = as_it_comes if data is None else data.elsewhere(path, label)
    for said in (as_it_was, as_it_comes):
        with contextlib.suppress(InputError):
            source = open_source(said)
            if _has_some(source, columns):
                return source
    return open_source(as_it_was)  # which says what is wrong, here or where it is read


def _has_some(source: Source, columns: Columns) -> bool:
    first = next(source.tables(), None)
    return first is not None and not {*columns.names, "features"}.isdisjoint(
        first.rows.column_names
    )
