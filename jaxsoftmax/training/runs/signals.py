"""Being asked to stop: the first signal is noted, the second ends the process at once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def noted(tell: Callable[[str], None]) -> Iterator[Callable[[], int | None]]:
    """Yields a function that gives the signal which has come, or None.

    Args:
      tell: called with what will happen, when the first signal comes.
    """
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        for asking in ASKING:
            signal.signal(asking, signal.SIG_DFL)
        name = signal.Signals(number).name
        tell(f"{name}: saving after this step; a second signal ends the run at once")

    before = {asking: signal.signal(asking, note) for asking in ASKING}
    try:
        yield lambda: received[0] if received else None
    finally:
        for asking, handler in before.items():
            signal.signal(asking, handler)
