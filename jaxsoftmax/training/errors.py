"""The ways a command can end early; each knows its exit code."""

from __future__ import annotations


class TrainerError(Exception):
    """A failure that its message explains; the command line shows no traceback for it."""

    exit_code: int


class InputError(TrainerError):
    """What the user gave (config, data, run folder) is unusable; one line per problem."""

    exit_code = 2


class RunFailedError(TrainerError):
    """The input was valid and the run went wrong all the same."""

    exit_code = 1


class InterruptedRunError(TrainerError):
    """A signal has asked the run to stop; it is saved, and the message says how to go on."""

    def __init__(self, message: str, signal: int) -> None:
        """Ends the command as shells report a process that this signal has ended."""
        super().__init__(message)
        self.exit_code = 128 + signal
