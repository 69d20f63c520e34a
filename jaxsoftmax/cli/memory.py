"""What is said where memory ends; and before, where it can end without a word."""

from __future__ import annotations

import contextlib
import errno
import sys

ADDRESSES = (
    4 << 30
)  # bytes; of them JAX, its threads and its compiler take three quarters on two cores
ENDED = (
    "resource_exhausted",  # as XLA says it
    "out of memory",
    "failed to map segment",  # a library that cannot be loaded
    "cannot allocate memory",
    "can't start new thread",
)


def warn() -> None:
    """Where addresses are few, says what may happen, as nobody can when it does.

    XLA's compiler does not look whether it gets the memory that it asks for, and ends the process
    by a segmentation fault (in JAX 0.12 where it makes an `MLIRContext`) or an abort (LLVM).
    """
    limit = _few_addresses()
    if limit is not None:
        print(
            f"warning: this process may have {limit / 1e9:.1f} GB of addresses (ulimit -v), "
            f"and JAX takes about 3 GB; where its compiler gets no more it can end the "
            f"process without a word. What was saved stays as it was",
            file=sys.stderr,
            flush=True,
        )


def ended(error: BaseException) -> bool:
    """Whether this is how memory ends."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    if isinstance(error, SystemError):  # what Python says where a library has forgotten to
        return _few_addresses() is not None
    return any(words in str(error).lower() for words in ENDED)


def sentence() -> str:
    """For people."""
    return (
        "there is not enough memory; what was saved is as it was. Fewer rows a step "
        "(solver.batch_size), features on disk ([data] memory) or more devices ([mesh]) need less"
    )


def _few_addresses() -> int | None:
    """The limit on them, where it is less than JAX should have."""
    with contextlib.suppress(ImportError):  # where there are no such limits
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        return limit if limit != resource.RLIM_INFINITY and limit < ADDRESSES else None
    return None
