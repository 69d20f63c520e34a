"""A process that forks children who save checkpoints for ever; each is to be killed from outside.

    python -m tests.faults.victim CONFIG FOLDER COUNT

It prints the process id of each child, and goes on when that one is dead. The children use NumPy
alone, as threads of XLA do not survive a fork.
"""

from __future__ import annotations

import itertools
import os
import sys
import warnings
from pathlib import Path

import jax
import numpy as np

from jaxsoftmax.training import data
from jaxsoftmax.training.config import load_config
from jaxsoftmax.training.runs import checkpoints, loop

warnings.simplefilter("ignore")  # of forking with threads


def main(config: str, folder: str, count: str) -> None:
    """See above."""
    settings = load_config(Path(config))
    job = loop.prepare(settings, data.prepare(settings))
    states = [loop.begin(job)]
    while not loop.finished(job, states[-1]):
        states.append(loop.advance(job, states[-1], 1))
    states = [
        state._replace(
            solver=jax.tree.map(np.asarray, state.solver),
            best=state.best._replace(params=jax.tree.map(np.asarray, state.best.params)),
        )
        for state in states
    ]
    for _ in range(int(count)):
        child = os.fork()
        if child == 0:
            for steps in itertools.count(max(checkpoints.numbers(Path(folder))) + 1):
                state = states[steps % len(states)]
                checkpoints.save(Path(folder), steps, state, keep=2)
        print(child, flush=True)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
