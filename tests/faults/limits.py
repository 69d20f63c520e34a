"""A process that may have so much memory and no more, and data that are larger than it."""

from __future__ import annotations

import json
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from jaxsoftmax.training.runs import RunState, checkpoints

from .processes import started
from .scene import Scene, Tally, digest

MB = 1 << 20
LONG = 1800  # seconds
LARGE = 16 * MB  # a checkpoint, and a few copies of it on the way
ALONE = """
import resource, sys
from jaxsoftmax.cli import main
kind, limit = getattr(resource, sys.argv[1]), int(sys.argv[2])
resource.setrlimit(kind, (limit, limit))
try:
    main(sys.argv[3:])
finally:
    print("\\n" + open("/proc/self/status").read())
"""


@contextmanager
def at_most(more: int) -> Iterator[None]:
    """This process may have so many bytes more than it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def large(state: RunState) -> RunState:
    """The same with parameters of `LARGE` bytes."""
    kernel = np.random.default_rng(0).random((LARGE // 4 // 64, 64), np.float32)
    return state._replace(
        best=state.best._replace(params=state.best.params._replace(kernel=kernel))
    )


def saving(scene: Scene, budget: int) -> Tally:
    """Memory ends at a random byte of a save, and of reading the newest."""
    tally, numbers = Tally(), random.Random(8)
    state = large(scene.states[10])
    for turn in range(budget):
        folder = scene.saved([9])
        more = numbers.randrange(4 * LARGE)
        try:
            with at_most(more):
                checkpoints.save(folder, 10, state, keep=2)
                written = True
        except MemoryError:
            written = False
        left = checkpoints.numbers(folder) == ([9, 10] if written else [9])
        stray = [path.name for path in (folder / checkpoints.FOLDER).iterdir()]
        whole = [checkpoints.read(checkpoints.place_of(folder, n)) for n in (9, 10)[: 1 + written]]
        try:
            with at_most(numbers.randrange(4 * LARGE)):
                read = checkpoints.latest(folder, lambda message: None).card.steps
        except MemoryError:
            read = whole[-1].card.steps
        right = left and len(stray) == len(whole) and read == whole[-1].card.steps
        tally.note(right, f"{turn}: {more} bytes: {stray}, read {read}")
    return tally


def _alone(kind: str, limit: int, *arguments: object) -> tuple[int, str, int]:
    """A trainer under a limit: how it ended, what it said, and the most memory that it had."""
    with started("-c", ALONE, kind, limit, "train", *arguments) as process:
        out, errors = process.communicate(timeout=LONG)
    peaks = [line.split() for line in out.splitlines() if line.startswith("VmPeak:")]
    return process.returncode, errors, int(peaks[0][1]) << 10 if peaks else 0


def training(scene: Scene, budget: int) -> Tally:
    """A trainer that may have 30 to 150 % of the memory it needs, on the way from a checkpoint.

    XLA's compiler ends the process where it gets none; that this may be was then told before.
    """
    tally, numbers = Tally(), random.Random(9)
    unlimited = 1 << 50
    code, errors, need = _alone("RLIMIT_AS", unlimited, "--resume", scene.saved([5]))
    assert code == 0, errors
    for _ in range(budget):
        folder = scene.saved([5])
        share = numbers.uniform(0.3, 1.5)
        code, errors, _ = _alone("RLIMIT_AS", int(share * need), "--resume", folder)
        if code == 0:
            tally.note(not checkpoints.numbers(folder), f"{share:.2f}: finished, not cleared")
            continue
        told = "not enough memory" in errors or "without a word" in errors
        told &= "jaxsoftmax/training/" not in errors  # a traceback
        whole = digest(scene.to_the_end(folder)) == scene.digest
        tally.note(told and whole, f"{share:.2f}: exit code {code}: {errors[-300:]}")
    return tally


def larger(scene: Scene, budget: int) -> Tally:
    """Features of so many MB, with private memory for a tenth (but no less than JAX needs)."""
    tally, folder = Tally(), scene.new("larger")
    width = 256
    rows = budget * MB // (4 * width)
    features = np.lib.format.open_memmap(
        folder / "x.npy", "w+", np.float32, (rows, width)
    )  # zeros that take no place, but for one in a thousand rows
    some = features[::1000]
    some[:] = np.random.default_rng(0).normal(size=some.shape)
    labels = np.arange(rows) % 2
    some[:, 0] += 3 * labels[::1000]
    np.save(folder / "y.npy", labels)
    tree = {
        "data": {
            "path": str(folder / "x.npy"),
            "labels_path": str(folder / "y.npy"),
            "memory": 0.001,
            "cache": str(folder),
        },
        "columns": {"standardize": "none"},
        "model": {"l2": 1e-3},
        "solver": {"name": "lbfgs", "max_iterations": 1},
    }
    (folder / "c.json").write_text(json.dumps(tree))
    limit = max(budget * MB // 10, 1000 * MB)
    code, errors, _ = _alone("RLIMIT_DATA", limit, folder / "c.json", "--out", folder / "run")
    tally.note(code == 0, f"{budget} MB: exit code {code}: {errors[-500:]}")
    (folder / "x.npy").unlink()
    return tally
