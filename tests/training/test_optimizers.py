"""Optimisers and schedules: the optax rule that is named, and no option ignored."""

import functools
import json
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from pydantic import TypeAdapter

from jaxsoftmax.training.solvers import optimizers
from jaxsoftmax.training.solvers.schedules import Horizon, Schedule

pytestmark = pytest.mark.default_modes  # optax promotes types inside its rules

OPTIMIZERS = {
    get_args(model.model_fields["name"].annotation)[0]: model
    for model in get_args(get_args(optimizers.Optimizer)[0])
}
HORIZON = Horizon(steps_per_epoch=1, steps=8)
OTHER = {
    "learning_rate": 0.2,
    "schedule": {"name": "linear"},
    "clip_norm": 0.1,
    "nesterov": lambda default: not default,
    "eps": 0.5,
    "initial_accumulator": 0.7,
}
OF_THE_RUN = {"name", "epochs", "batch_size", "patience"}  # how long, and on what
SHARED = set(optimizers.FirstOrder.model_fields)  # built by one function; tried on one optimiser
REFERENCES = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "adam": optax.adam(0.1),
    "adamw": optax.adamw(0.1),
    "nadam": optax.nadam(0.1),
    "radam": optax.radam(0.1),
    "amsgrad": optax.amsgrad(0.1),
    "adabelief": optax.adabelief(0.1),
    "lamb": optax.lamb(0.1),
    "lion": optax.lion(0.1),
    "rmsprop": optax.rmsprop(0.1),
    "adagrad": optax.adagrad(0.1),
    "muon": optax.contrib.muon(0.1),
}


def model(table):
    return TypeAdapter(optimizers.Optimizer).validate_json(json.dumps(table))


def first_order(name, **options):
    return model({"name": name, "epochs": 1, "learning_rate": 0.1} | options).build(HORIZON)


def path(solver):
    """Where eight random gradients, growing and of changing sign, lead a kernel and a bias."""
    draw = np.random.default_rng(0).normal(size=(8, 3, 3)) * np.arange(1, 9)[:, None, None]
    gradients = draw.astype(np.float32)
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    state = solver.init(params)

    def step(gradient, params, state):
        gradient = {"kernel": gradient[:2], "bias": gradient[2]}
        updates, state = solver.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    for gradient in gradients:
        params, state = step(gradient, params, state)
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])


@functools.cache
def default_path(name):
    return path(first_order(name))


def options():
    for name in REFERENCES:
        for field, info in OPTIMIZERS[name].model_fields.items():
            if field not in OF_THE_RUN and (field not in SHARED or name == "adam"):
                other = OTHER.get(field, 0.3)
                yield name, field, other(info.default) if callable(other) else other


def test_every_optimizer_is_tested():
    assert {*REFERENCES, "lbfgs", "newton_cg", "fista"} == set(OPTIMIZERS)


@pytest.mark.parametrize("name", REFERENCES)
def test_defaults_are_those_of_optax(name):
    expected = path(REFERENCES[name])
    assert default_path(name) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("name", "field", "value"), list(options()))
def test_every_option_changes_the_path(name, field, value):
    changed = path(first_order(name, **{field: value}))
    assert np.all(np.isfinite(changed))
    assert not np.allclose(changed, default_path(name), rtol=1e-4, atol=0)


def valley(point):
    """Rosenbrock's function, steep across and flat along its curved valley."""
    return 100 * (point[1] - point[0] ** 2) ** 2 + (1 - point[0]) ** 2


def descent(**options):
    solver = model({"name": "lbfgs"} | options).build(HORIZON)

    @jax.jit
    def run(point):
        def step(carry, _):
            point, state = carry
            value, grad = jax.value_and_grad(valley)(point)
            updates, state = solver.update(
                grad, state, point, value=value, grad=grad, value_fn=valley
            )
            return (optax.apply_updates(point, updates), state), value

        return jax.lax.scan(step, (point, solver.init(point)), length=40)

    return np.asarray(run(jnp.array([-1.2, 1.0]))[1])


def test_lbfgs_and_its_options():
    values = descent()
    assert values[-1] < 1e-4 * values[0]
    for options in ({"memory_size": 1}, {"line_search_steps": 2}):
        assert not np.allclose(descent(**options), values, rtol=1e-2)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"name": "constant"}, [8, 8, 8, 8, 8]),
        ({"name": "linear"}, [8, 6, 4, 2, 0]),
        ({"name": "linear", "end": 0.5}, [8, 7, 6, 5, 4]),
        ({"name": "polynomial", "power": 2, "end": 0.5}, [8, 6.25, 5, 4.25, 4]),
        ({"name": "cosine"}, [8, 4 + 4 * 0.5**0.5, 4, 4 - 4 * 0.5**0.5, 0]),
        ({"name": "cosine", "end": 0.5}, [8, 6 + 2 * 0.5**0.5, 6, 6 - 2 * 0.5**0.5, 4]),
        ({"name": "warmup_cosine", "warmup": 0.5}, [0, 4, 8, 4, 0]),
        ({"name": "warmup_cosine", "warmup": 0.5, "start": 0.5, "end": 0.5}, [4, 6, 8, 6, 4]),
        ({"name": "exponential", "rate": 0.25}, [8, 4, 2, 1, 0.5]),
        ({"name": "exponential", "rate": 0.25, "staircase": True}, [8, 8, 2, 2, 0.5]),
        ({"name": "piecewise", "epochs": [1, 2], "factors": [0.5, 0.25]}, [8, 8, 4, 4, 1]),
    ],
)
def test_schedules(table, expected):
    """A run of two epochs, 20 steps each, looked at every ten steps."""
    schedule = TypeAdapter(Schedule).validate_json(json.dumps(table))
    rate = schedule.build(8.0, Horizon(steps_per_epoch=20, steps=40))
    steps = [0, 10, 20, 30, 40]
    if table["name"] == "piecewise":  # a boundary belongs to the epoch before it
        steps = [0, 10, 21, 30, 41]
    assert [float(rate(jnp.int32(step))) for step in steps] == pytest.approx(expected, abs=1e-5)
