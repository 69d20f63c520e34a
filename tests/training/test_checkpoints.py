"""Checkpoints: every bit of a state comes back, and a run that goes on ends with the same bits."""

import json

import jax
import numpy as np
import pytest

from jaxsoftmax.training import data
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.runs import checkpoints, loop, resume

pytestmark = pytest.mark.default_modes  # optax promotes types inside its rules

ADAM = {"name": "adam", "epochs": 4, "batch_size": 16, "learning_rate": 0.1}
SOLVERS = {
    "minibatch": (ADAM | {"schedule": {"name": "cosine"}}, 1e-3),
    "lion": (ADAM | {"name": "lion"}, 1e-3),
    "newton": ({"name": "newton_cg"}, 1e-3),
    "lbfgs": ({"name": "lbfgs"}, 1e-3),
    "path": ({"name": "newton_cg"}, "auto"),
    "lbfgs path": ({"name": "lbfgs"}, "auto"),
}


def configured(solver, l2, **sections):
    tree = {
        "data": {"source": "builtin", "name": "iris"},
        "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
        "model": {"l2": l2},
        "solver": solver,
        **sections,
    }
    return RunConfig.model_validate_json(json.dumps(tree))


def prepared(name, **sections):
    config = configured(*SOLVERS[name], **sections)
    return loop.prepare(config, data.prepare(config))


def bits(state):
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(state.leaves)]
    return [(array.dtype, array.shape, array.tobytes()) for array in arrays], state._replace(
        solver=None, best=state.best.validation_loss
    )


def no_warning(message):
    raise AssertionError(message)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_run_that_is_loaded_on_the_way_ends_with_the_same_bits(name, tmp_path):
    """Before every step; on a path, which is long, before every ninth. One step tells of all."""
    job = prepared(name)
    every = 9 if job.path else 1
    state = loop.begin(job)
    while not loop.finished(job, state):
        steps, after = loop.steps(job, state), loop.advance(job, state, 1)
        if steps % every == 0:
            checkpoints.save(tmp_path, steps, state, keep=1)
            again = resume.state_of(job, checkpoints.latest(tmp_path, no_warning))
            assert bits(again) == bits(state)
            assert bits(loop.advance(job, again, 1)) == bits(after)
        state = after
    assert loop.steps(job, state) > 4


def saved(folder, job, counts, keep=10):
    state = loop.begin(job)
    while loop.steps(job, state) <= max(counts):
        if loop.steps(job, state) in counts:
            checkpoints.save(folder, loop.steps(job, state), state, keep)
        state = loop.advance(job, state, 1)


def test_the_newest_stay_and_what_a_killed_process_left_goes(tmp_path):
    stale = tmp_path / checkpoints.FOLDER / ".unfinished-7"
    stale.mkdir(parents=True)
    (stale / "arrays.safetensors").write_bytes(b"half")
    saved(tmp_path, prepared("minibatch"), {1, 2, 4, 5}, keep=2)
    assert checkpoints.numbers(tmp_path) == [4, 5]
    assert {path.name for path in (tmp_path / checkpoints.FOLDER).iterdir()} == {
        "00000004",
        "00000005",
    }


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_is_taken(tmp_path):
    job = prepared("minibatch")
    saved(tmp_path, job, {2, 4})
    arrays = tmp_path / checkpoints.FOLDER / "00000004" / checkpoints.ARRAYS
    content = bytearray(arrays.read_bytes())
    content[-3] ^= 1
    arrays.write_bytes(content)
    told = []
    assert checkpoints.latest(tmp_path, told.append).card.steps == 2
    assert told == [
        (
            f"{arrays}: is damaged: its SHA-256 is not the one that SHA256SUMS records; "
            f"this checkpoint is not used"
        )
    ]
    saved(tmp_path, job, {4})  # and is replaced when the run gets there again
    assert checkpoints.latest(tmp_path, no_warning).card.steps == 4


def test_without_a_whole_checkpoint_there_is_an_error(tmp_path):
    with pytest.raises(InputError, match="holds no checkpoint to resume from"):
        checkpoints.latest(tmp_path, no_warning)
    saved(tmp_path, prepared("minibatch"), {2})
    (tmp_path / checkpoints.FOLDER / "00000002" / "SHA256SUMS").unlink()
    with pytest.raises(InputError, match="none of its 1 checkpoints is whole"):
        checkpoints.latest(tmp_path, lambda message: None)


def checked(folder, changed, allowed=()):
    config = changed.config
    resume.check(checkpoints.latest(folder, no_warning), config, changed.dataset, allowed)


def test_changes_are_listed_and_refused_unless_they_are_named(tmp_path):
    saved(tmp_path, prepared("minibatch"), {2})
    config = configured(ADAM | {"learning_rate": 0.2, "clip_norm": 1.0}, 1e-3, seed=1)
    changed = loop.prepare(config, data.prepare(config))
    with pytest.raises(InputError) as failure:
        checked(tmp_path, changed)
    first, *lines = str(failure.value).splitlines()
    assert first.endswith("00000002: was saved by a run that differs:")
    assert lines[:4] == [
        "  seed: was 0, is 1",
        "  solver.learning_rate: was 0.1, is 0.2",
        '  solver.schedule.name: was "cosine", is "constant"',
        "  solver.schedule.end: was 0.0, is not set",
    ]
    assert lines[-1].startswith("undo this, or go on all the same with --allow-change seed,solver.")
    with pytest.raises(InputError, match="seed: was 0, is 1"):
        checked(tmp_path, changed, ["solver", "data"])
    checked(tmp_path, changed, ["solver", "seed", "data"])


def test_other_versions_are_told(tmp_path):
    saved(tmp_path, prepared("minibatch"), {2})
    card = checkpoints.latest(tmp_path, no_warning).card
    assert card.versions["jax"] == jax.__version__
    assert resume.other_versions(card) == ""
    older = card.model_copy(update={"versions": card.versions | {"jax": "0.9", "gone": "1"}})
    assert resume.other_versions(older) == f"jax 0.9 (now {jax.__version__})"


def test_what_decides_nothing_may_change(tmp_path):
    saved(tmp_path, prepared("minibatch"), {2})
    checked(tmp_path, prepared("minibatch", checkpoint={"every_steps": 3}))


def test_arrays_of_another_solver_do_not_fit(tmp_path):
    saved(tmp_path, prepared("minibatch"), {2})
    checkpoint = checkpoints.latest(tmp_path, no_warning)
    with pytest.raises(InputError, match="arrays are not those of this model and solver") as error:
        resume.state_of(prepared("newton"), checkpoint)
    assert "solver.memory" in str(error.value)


def test_a_link_is_no_checkpoint(tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    for folder in (run, other):
        folder.mkdir()
    job = prepared("minibatch")
    saved(other, job, {2})
    (run / checkpoints.FOLDER).symlink_to(other / checkpoints.FOLDER)
    with pytest.raises(InputError, match="is a link"):
        saved(run, job, {3})
    told = []
    with pytest.raises(InputError, match="none of its 1 checkpoints is whole"):
        checkpoints.latest(run, told.append)
    assert "is a link; a checkpoint lies in its run's folder" in told[0]
    assert checkpoints.numbers(other) == [2]
