"""Next words: what the features of a row are made of, and what a model makes of them."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench.next_word import perplexities
from jaxsoftmax.training.config import load_config
from jaxsoftmax.training.crossvalidation import fitted
from jaxsoftmax.training.data import prepare
from jaxsoftmax.training.data.sources import builtin, next_word
from jaxsoftmax.training.report.scores import judge
from jaxsoftmax.training.runs import programs
from jaxsoftmax.training.solvers import Params, Problem, Settings
from jaxsoftmax.training.solvers.schedules import Horizon

pytestmark = pytest.mark.once

PARAGRAPHS, LENGTH, WORDS = 60, 30, 40


def text(seed=0):
    """Words of which each is followed by few others, by the two before it."""
    random = np.random.default_rng(seed)
    follow = random.integers(0, WORDS, (WORDS, 2, 2))
    lines = []
    for _ in range(PARAGRAPHS):
        words = [0, 1]
        for _ in range(LENGTH):
            words.append(follow[words[-1], words[-2] % 2, int(random.random() < 0.2)])
        lines.append(" ".join("w" + chr(97 + w // 26) + chr(97 + w % 26) for w in words))
    return "\n".join(lines)


def test_words_and_marks_paragraph_by_paragraph():
    found = next_word.parsed("The end.\n\nThe LORD's end?\n", 2)
    assert found.words == (".", "?", "end", "lord's", "the")
    nothing = len(found.words)
    assert found.next.tolist() == [4, 2, 0, 4, 3, 2, 1]
    assert found.before.tolist() == [
        [nothing, nothing], [4, nothing], [2, 4],
        [nothing, nothing], [4, nothing], [3, 4], [2, 3],
    ]  # fmt: skip
    assert found.parts.tolist() == [0] * 7
    many = next_word.parsed("a\n" * 10, 1)
    assert many.parts.tolist() == [0] * 8 + [1, 2]


@pytest.mark.parametrize("row", [0, 1, 57, 400, 1000, -1])
def test_a_row_does_not_count_itself(row):
    """Against counts that are made again from all other rows of the training part."""
    parsed = next_word.parsed(text(), 2)
    row %= len(parsed.next)
    followers = next_word.followers(parsed, (5, 3))
    found = next_word.features(parsed, followers, slice(row, row + 1))[0]
    others = (parsed.parts == 0) & (np.arange(len(parsed.next)) != row)
    expected = []
    for distance, follower in enumerate(followers):
        word = parsed.before[row, distance]
        after = parsed.next[others & (parsed.before[:, distance] == word)]
        counts = np.bincount(after, minlength=len(parsed.words))
        root = np.sqrt(counts) / np.sqrt(max(counts.sum(), 1))
        expected.append(root @ follower.projection)
    assert found == pytest.approx(np.concatenate(expected), rel=1e-4, abs=1e-6)


def test_other_parts_have_no_say_in_the_features():
    whole = next_word.parsed(text(), 2)
    train = whole._replace(next=np.where(whole.parts == 0, whole.next, 0).astype(np.int32))
    a, b = (next_word.followers(each, (5,))[0] for each in (whole, train))
    assert np.array_equal(a.projection, b.projection)
    assert (a.counts != b.counts).nnz == 0


def test_the_bigram_to_beat_is_a_distribution():
    """Of each word the probabilities sum to 1, told from texts that end in each of the words."""
    parsed = next_word.parsed(text(), 1)
    words = np.arange(len(parsed.words), dtype=np.int32)
    for before in (0, 3, len(words)):
        total = 0.0
        for word in words:
            ending = parsed._replace(
                before=np.append(parsed.before, [[before]], axis=0).astype(np.int32),
                next=np.append(parsed.next, word),
                parts=np.append(np.where(parsed.parts == 2, 1, parsed.parts), 2),
            )
            total += 1 / perplexities(ending).bigram
        assert total == pytest.approx(1)


@pytest.fixture
def small(monkeypatch):
    parsed = next_word.parsed(text(), 2)
    made = parsed, next_word.followers(parsed, (24, 12))
    monkeypatch.setattr(builtin, "_bible", lambda: made)
    return parsed


CONFIG = Path(__file__).parents[2] / "configs" / "kjv.toml"


def config(**more):
    found = load_config(CONFIG)
    return found.model_copy(update={"solver": found.solver.model_copy(update=more)})


@pytest.mark.default_modes
def test_perplexity_is_below_a_smoothed_bigrams(small):
    chosen = config(epochs=25, batch_size=64)
    dataset = prepare(chosen)
    model, part = fitted(chosen, dataset), dataset.part("test")
    answers = judge(part.labels, model.blocks(part.features))
    unigram, bigram = perplexities(small)
    assert len(part.labels) == np.sum(small.parts == 2)
    assert np.exp(answers.losses.mean()) < 0.95 * bigram < unigram


@pytest.mark.default_modes
def test_no_array_of_rows_times_classes():
    """The scratch memory of the compiled steps, and of the scores, at the classes of the config."""
    rows, width, classes, batch = 40_000, 136, 12_687, 8192

    def shape(*sizes, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(sizes, dtype)

    problem = Problem(
        shape(rows, width), shape(rows, dtype=jnp.int32), shape(rows), shape(), shape()
    )
    params = Params(shape(width, classes), shape(classes))
    solver = config(batch_size=batch).solver.solver(Horizon(5, 5))
    settings = Settings(shape(), shape(dtype=jnp.int32))
    state = jax.eval_shape(solver.init, problem, params, settings)
    number = shape(dtype=jnp.int32)
    steps = programs.batch_steps.lower(
        solver, 0, (batch, rows, 1), problem, state, number, number, number
    )
    of_params = 4 * classes * (width + 1)
    of_batch = 4 * batch * width
    for lowered, held in (
        (steps, 8 * of_params + 2 * of_batch),
        (programs.scores.lower(params, problem), 0),
    ):
        scratch = lowered.compile().memory_analysis().temp_size_in_bytes
        assert scratch < held + 4 * batch * classes / 4
