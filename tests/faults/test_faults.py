"""Some of every kind of fault; ``./run faults`` does many more of each."""

import jax
import pytest

from tests.faults import scene
from tests.faults.kinds import KINDS

pytestmark = [
    pytest.mark.default_modes,
    pytest.mark.once,
]  # optax promotes types


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return scene.make(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.few], ids=lambda kind: kind.name)
def test_survived(kind, made):
    tally = kind.fault(made, kind.few)
    assert tally.wrong == []
    assert tally.tried >= 1
