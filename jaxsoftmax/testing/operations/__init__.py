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
ALL = tuple(sorted(_FOUND, key=lambda record: (len(record.inputs), record.name)))
BY_NAME = {record.name: record for record in ALL}


def named(name: str) -> Operation:
    """The record of this public name.

    Raises:
      ValueError: there is none.
    """
    if name not in BY_NAME:
        raise ValueError(f"There is no operation {name!r}. Choose from {', '.join(BY_NAME)}.")
    return BY_NAME[name]
