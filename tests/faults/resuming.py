"""Runs that are left and taken up again; each must end with the bits of the run that was not."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import jax.numpy as jnp
import numpy as np
from pydantic import TypeAdapter, ValidationError

from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.runs import checkpoints, loop, resume
from jaxsoftmax.training.solvers.schedules import Constant

from .scene import STEPS, Scene, Tally, digest

OTHERS = (False, True, 7, 0.25, "x", ("x",), Constant(name="constant"))


def once(scene: Scene, budget: int) -> Tally:
    """Left after each step of the run, in the middle of epochs too."""
    tally = Tally()
    for steps in range(0, STEPS + 1, max(1, STEPS // budget)):
        state = scene.to_the_end(scene.saved([steps]))
        tally.note(digest(state) == scene.digest, f"after {steps} steps")
    return tally


def twice(scene: Scene, budget: int) -> Tally:
    """Left, taken up, and left again after some more steps."""
    tally, numbers = Tally(), random.Random(0)
    for _ in range(budget):
        first, second = sorted(numbers.sample(range(STEPS), 2))
        folder = scene.saved([first])
        checkpoints.save(folder, second, scene.to_the_end(folder, second), keep=1)
        state = scene.to_the_end(folder)
        tally.note(digest(state) == scene.digest, f"after {first} and {second} steps")
    return tally


def changed(scene: Scene, budget: int) -> Tally:
    """Each key of the config with another value: listed by name, or known to decide nothing."""
    del budget  # there are as many as there are keys
    tally, folder = Tally(), scene.saved([STEPS // 2])
    checkpoint = checkpoints.latest(folder, lambda message: None)
    for name, tree in _variants(scene.job.config):
        config = scene.job.config.model_copy(update=tree)
        try:
            resume.check(checkpoint, config, scene.job.dataset, ())
        except InputError as error:
            resume.check(checkpoint, config, scene.job.dataset, (name,))
            tally.note(f"\n  {name}" in str(error), name)
        else:
            tally.note({name, name.split(".")[0]} & set(resume.FREE) != set(), name)
    other = scene.job.dataset._replace(fingerprint="0" * 64)
    for allowed, passes in [((), False), (("data",), True), (("solver",), False)]:
        try:
            resume.check(checkpoint, scene.job.config, other, allowed)
        except InputError as error:
            tally.note(not passes and "data: was rows" in str(error), f"data, allowed {allowed}")
        else:
            tally.note(passes, f"data, allowed {allowed}")
    return tally


def _variants(config: RunConfig) -> Iterator[tuple[str, dict[str, object]]]:
    """Configs that differ in one key from the given one."""
    yield "seed", {"seed": config.seed + 1}
    for section in (
        "data",
        "columns",
        "split",
        "model",
        "solver",
        "checkpoint",
        "mesh",
        "distributed",
    ):
        table = getattr(config, section)
        for key, value in table:
            for other in _others(type(table).model_fields[key].annotation, value):
                yield f"{section}.{key}", {section: table.model_copy(update={key: other})}


def _others(annotation: Any, value: Any) -> list[Any]:
    """A value of the type that is another than the given one, if there is one."""
    fitting, found = TypeAdapter(annotation), []
    for new in (*OTHERS, *_literals(annotation)):
        with contextlib.suppress(ValidationError):
            found.append(fitting.validate_python(new, strict=True))
    return [new for new in found if repr(new) != repr(value)][:1]


def _literals(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for inner in get_args(annotation) for value in _literals(inner)]


def not_finite(scene: Scene, budget: int) -> Tally:
    """A row that is not finite: the step whose batch has it is named, and the last good stays."""
    tally, numbers = Tally(), random.Random(1)
    rows, dataset = scene.job.rows, scene.job.dataset
    for _ in range(budget):
        row = numbers.randrange(dataset.parts.train.stop)
        start = numbers.randrange(STEPS - 4)
        features = rows.features.at[row, 0].set(numbers.choice([jnp.nan, jnp.inf]))
        poisoned = scene.job._replace(rows=type(rows)(**{**vars(rows), "features": features}))
        state, good, failure = scene.states[start], scene.states[start], None
        while failure is None and loop.steps(poisoned, state) < STEPS:
            good = state
            try:
                state = loop.advance(poisoned, state)
            except loop.DivergedError as error:
                failure = error
        if failure is None:
            tally.note(False, f"row {row} from step {start}: not noticed")
            continue
        if failure.good:
            good = loop.advance(poisoned, good, failure.good)
        finite = all(np.isfinite(leaf).all() for leaf in good.solver.params)
        named = f"step {good.position.step + 1} of 4 (rows " in str(failure)
        folder = scene.saved([])
        checkpoints.save(folder, loop.steps(poisoned, good), good, keep=1)
        tally.note(finite and named, f"row {row} from step {start}: {failure}")
    return tally
