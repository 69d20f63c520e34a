"""A run of several processes: each makes the same calls, and the first keeps what comes of it.

The others work in a folder that goes with them. What is decided by a clock or a signal is decided
together, as all must make the same steps.
"""

from __future__ import annotations

import os
from typing import Literal

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxsoftmax.training.errors import InputError

# How many processes Slurm, Open MPI, or who starts them by hand, says there are.
COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "JAX_NUM_PROCESSES")


def join(mode: Literal["auto", "on", "off"]) -> None:
    """Meets the other processes, before JAX looks for devices.

    Args:
      mode: ``on`` does, ``off`` does not; ``auto`` does where the environment says that there are
        several. JAX finds them on Slurm, Open MPI, Kubernetes and TPUs; elsewhere
        ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID`` say it.

    Raises:
      InputError: they cannot be found.
    """
    several = any((_number(name) or 1) > 1 for name in COUNTS)
    if mode == "off" or (mode == "auto" and not several) or jax.distributed.is_initialized():
        return
    count, number = (_number(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    try:
        jax.distributed.initialize(num_processes=count, process_id=number)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"[distributed] mode = {mode!r}: the other processes are not found: {error}; set "
            f"JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or mode = 'off'"
        ) from None


def first() -> bool:
    """Whether this process keeps the run."""
    return jax.process_index() == 0


def agreed(signal: int | None, due: bool, ahead: int) -> tuple[int | None, bool, int]:
    """A signal that any process has got, and what the first one has decided."""
    if jax.process_count() == 1:
        return signal, due, ahead
    said = np.asarray(
        multihost_utils.process_allgather(np.array([signal or 0, due, ahead], np.int32))
    )
    return int(said[:, 0].max()) or None, bool(said[0, 1]), int(said[0, 2])


def check_same(what: str, text: str) -> None:
    """Refuses processes that do not mean the same.

    Raises:
      InputError: ``text``, as long in each, is not the same in all processes.
    """
    if jax.process_count() > 1:
        said = multihost_utils.process_allgather(np.frombuffer(text.encode(), np.uint8))
        if (np.asarray(said) != np.asarray(said)[0]).any():
            raise InputError(f"{what}: is not the same in all {jax.process_count()} processes")


def wait() -> None:
    """Until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("jaxsoftmax")


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else None
