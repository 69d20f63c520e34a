"""All operations that are measured and tested alike: one record each, found in the files here."""

from __future__ import annotations

import importlib
import pkgutil

from .record import Operation

_FOUND = {
    record
    for file in pkgutil.iter_modules(__path__, f"{__name__}.")
    for record in vars(importlib.import_module(file.name)).values()
    if isinstance(record, Operation)
}
# In the order of tables: functions of logits alone first.
_IN_ORDER = sorted(_FOUND, key=lambda record: (len(record.inputs), record.name))
ALL = tuple(record for record in _IN_ORDER if not record.of_heads)
OF_HEADS = tuple(record for record in _IN_ORDER if record.of_heads)
BY_NAME = {record.name: record for record in (*ALL, *OF_HEADS)}


def named(name: str) -> Operation:
    """The record of this public name.

    Raises:
      ValueError: there is none.
    """
    if name not in BY_NAME:
        raise ValueError(f"There is no operation {name!r}. Choose from {', '.join(BY_NAME)}.")
    return BY_NAME[name]
