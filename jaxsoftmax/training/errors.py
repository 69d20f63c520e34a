"""The two ways a command can fail; each knows its exit code."""

from __future__ import annotations

from typing import ClassVar


class TrainerError(Exception):
    """A failure that its message explains; the command line shows no traceback for it."""

    exit_code: ClassVar[int]


class InputError(TrainerError):
    """What the user gave (config, data, run folder) is unusable; one line per problem."""

    exit_code = 2


class RunFailedError(TrainerError):
    """The input was valid and the run went wrong all the same."""

    exit_code = 1
