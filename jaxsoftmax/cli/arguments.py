"""Arguments that several commands take, and the errors that several make."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import Parameter

Overrides = Annotated[
    list[str] | None,
    Parameter(
        name="--set",
        negative=(),
        help="Replace one setting, as in --set solver.batch_size=64; may be repeated.",
    ),
]
Run = Annotated[Path, Parameter(name="run")]


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """What the arguments name does not exist or makes no sense: one line, exit code 2."""
    try:
        yield
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def usage(message: str) -> NoReturn:
    """Ends the program: the arguments make no sense."""
    print(message, file=sys.stderr)
    sys.exit(2)
