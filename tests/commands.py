"""The command line, inside of this process."""

from __future__ import annotations

import pytest

from jaxsoftmax.cli import main


def command(*arguments: object) -> int | str:
    """Runs a command and returns its exit code."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code or 0
