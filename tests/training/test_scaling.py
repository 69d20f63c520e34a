"""What crosses the network in a step, read from the compiled program; docs/scaling.md tells it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsoftmax.training.config.keys import MeshConfig
from jaxsoftmax.training.runs import devices, programs
from jaxsoftmax.training.solvers import Params, Problem, Settings
from jaxsoftmax.training.solvers.first_order import FirstOrder

pytestmark = pytest.mark.default_modes  # optax promotes types inside its rules

ROWS, FEATURES, CLASSES, BATCH = 2048, 64, 512, 256  # one block of rows a device
COLLECTIVE = re.compile(
    r"= (?P<shapes>[^=]*?) "
    r"(?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)


def program(data, classes, batch=False):
    """The compiled step on all rows, or on a batch of them."""
    mesh = devices.mesh_of(MeshConfig(data=data, classes=classes), CLASSES)
    places = devices.Devices(mesh, ROWS, CLASSES)
    rows = Problem(
        places.place(np.zeros((ROWS, FEATURES), np.float32)),
        places.place(np.zeros(ROWS, np.int32)),
        places.place(np.ones(ROWS, np.float32)),
        l2=jnp.float32(1e-3),
    )
    solver = FirstOrder(optax.with_extra_args_support(optax.adam(0.1)))
    numbers = [jnp.int32(number) for number in (0, 0, 4)]
    with places.context():
        params = Params(jnp.zeros((FEATURES, CLASSES)), jnp.zeros(CLASSES))
        settings = Settings(jnp.float32(0), jnp.int32(9))
        shapes = jax.eval_shape(solver.init, rows, params, settings)
        state = places.place(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes))
        if not batch:
            return programs.step.lower(solver, rows, state).compile()
        sizes = BATCH, ROWS, data
        return programs.batch_steps.lower(solver, 0, sizes, rows, state, *numbers).compile()


def crossing(compiled):
    """How many numbers of 4 bytes are operands of collectives, each counted once in the program."""
    shapes = " ".join(found["shapes"] for found in COLLECTIVE.finditer(compiled.as_text()))
    sizes = re.findall(r"(?:f32|s32|u32)\[([\d,]*)\]", shapes)
    return [int(np.prod([int(size) for size in text.split(",") if size])) for text in sizes]


@pytest.mark.parametrize("data", [2, 8])
def test_the_gradient_crosses_once_and_nothing_else_grows_with_the_kernel(data):
    whole, batch = (crossing(program(data, 1, batch)) for batch in (False, True))
    gradient = FEATURES * CLASSES + CLASSES
    assert sum(whole) == pytest.approx(gradient, abs=8)  # and a few sums
    # A batch is drawn from all rows: its features, labels, weights and numbers cross as well.
    assert sum(batch) == pytest.approx(gradient + BATCH * (FEATURES + 5), abs=8)


def test_classes_that_are_spread_divide_the_gradient_and_add_three_numbers_a_row():
    whole = crossing(program(2, 2))
    gradient = (FEATURES * CLASSES + CLASSES) // 2
    assert sum(whole) == pytest.approx(gradient + 3 * ROWS // 2, abs=8)


def test_memory_of_a_device_is_its_share_of_the_classes():
    sizes = [program(1, classes).memory_analysis() for classes in (2, 8)]
    two, eight = (size.argument_size_in_bytes - ROWS * (FEATURES + 2) * 4 for size in sizes)
    assert two / eight == pytest.approx(4, rel=0.01)
