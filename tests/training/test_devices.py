"""A run on 1, 2, 4 and 8 devices: the same losses, the same model, the same checkpoints."""

import json

import jax
import numpy as np
import pytest

from jaxsoftmax.training import data
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.runs import checkpoints, loop, resume

pytestmark = pytest.mark.default_modes  # optax promotes types inside its rules

ADAM = {"name": "adam", "epochs": 4, "batch_size": 18, "learning_rate": 0.05}
SOLVERS = {
    "minibatch": (ADAM, 1e-3),
    "newton": ({"name": "newton_cg"}, 1e-3),
    "lbfgs": ({"name": "lbfgs"}, 1e-3),
    "path": ({"name": "newton_cg"}, "auto"),
}
CASES = [
    *(("minibatch", mesh) for mesh in [(2, 1), (4, 1), (8, 1), (2, 2), (1, 5)]),
    ("newton", (8, 1)),
    ("lbfgs", (4, 1)),
    ("path", (2, 1)),
]
# Iterations of L-BFGS whose validation losses agree. Where the objective falls by less than its
# last bits the line search takes other steps, along which the training loss hardly changes.
ALIKE = 40


def prepared(name, data_devices, classes):
    solver, l2 = SOLVERS[name]
    dataset = "iris" if name == "path" else "digits"
    tree = {
        "data": {"source": "builtin", "name": dataset},
        "split": {"train": 0.2, "validation": 0.2, "test": 0.6},
        "model": {"l2": l2},
        "solver": solver,
        "mesh": {"data": data_devices, "classes": classes},
    }
    config = RunConfig.model_validate_json(json.dumps(tree))
    return loop.prepare(config, data.prepare(config))


def fitted(job, state=None):
    state = loop.begin(job) if state is None else state
    while not loop.finished(job, state):
        state = loop.advance(job, state)
    return state


def losses(state):
    return np.array([(r.train_loss, r.validation_loss) for r in state.records])


@pytest.fixture(scope="module")
def alone():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return {name: fitted(prepared(name, 1, 1)) for name in SOLVERS}


def compare(name, state, alone):
    found, expected = losses(state), losses(alone[name])
    if name == "lbfgs":
        steps = min(len(found), len(expected))  # to the tolerance may be one more
        assert found[:steps, 0] == pytest.approx(expected[:steps, 0], rel=1e-5, abs=1e-5)
        found, expected = (np.concatenate([x[:ALIKE], x[-1:]]) for x in (found, expected))
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("name", "mesh"), CASES, ids=str)
def test_loss_curves_do_not_depend_on_the_devices(name, mesh, alone):
    state = fitted(prepared(name, *mesh))
    compare(name, state, alone)
    assert np.asarray(state.best.params.kernel) == pytest.approx(
        np.asarray(alone[name].best.params.kernel), abs=2e-3
    )
    kernel = state.solver.params.kernel
    assert len(kernel.sharding.device_set) == mesh[0] * mesh[1]
    assert kernel.addressable_shards[0].data.shape == (
        kernel.shape[0],
        kernel.shape[1] // mesh[1],
    )


@pytest.mark.parametrize("name", ["minibatch", "newton"])
def test_a_checkpoint_of_eight_devices_goes_on_on_one_and_on_two_by_two(name, alone, tmp_path):
    job = prepared(name, 8, 1)
    state = loop.begin(job)
    for _ in range(3):
        state = loop.advance(job, state, 7)
    checkpoints.save(tmp_path, loop.steps(job, state), state, keep=1)
    for mesh in [(1, 1), (2, 2)]:
        other = prepared(name, *mesh)
        found = checkpoints.latest(tmp_path, print)
        resume.check(found, other.config, other.dataset, ())
        again = fitted(other, resume.state_of(other, found))
        compare(name, again, alone)


def test_meshes_that_cannot_be(alone):
    with pytest.raises(InputError, match="needs 16 devices, and there are 8"):
        prepared("minibatch", 16, 1)
    with pytest.raises(InputError, match="must divide the number of classes, 10"):
        prepared("minibatch", 1, 4)


def test_on_one_cpu_all_devices_are_one():
    assert prepared("minibatch", -1, 1).devices.mesh is None
    assert prepared("minibatch", -1, 2).devices.mesh.shape == {"data": 1, "classes": 2}
