"""Recipes of docs/heads.md: losses of a few lines on the public names, against dense logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax import (
    linear_log_softmax,
    linear_softmax_cross_entropy,
    linear_softmax_js_divergence,
    linear_softmax_stats,
    linear_top_k,
)
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.ops.devices import assert_close

B, T, D, C, K = 3, 5, 4, 11, 3  # sequences, tokens, features, vocabulary, classes of a teacher

pytestmark = pytest.mark.usefixtures("x64")


def given():
    """Features of sequences (B, T, D), a head (D, C), tokens and a mask of the completions."""
    keys = jax.random.split(jax.random.key(6), 8)
    normal = functools.partial(jax.random.normal, dtype=jnp.float64)
    mask = jnp.arange(T)[None, :] >= jnp.array([1, 3, 2])[:, None]
    return {
        "hidden": normal(keys[0], (B, T, D)),
        "head": normal(keys[1], (D, C)),
        "tokens": jax.random.randint(keys[2], (B, T), 0, C),
        "mask": mask.astype(jnp.float64),
        "old": -2 + normal(keys[3], (B, T)) / 4,
        "reference": -2 + normal(keys[4], (B, T)) / 4,
        "advantages": normal(keys[5], (B,)),
        "other_hidden": normal(keys[6], (B, T, D)),
        "other_head": normal(keys[7], (D, C)),
    }


def dense_log_probs(hidden, head, temperature=1.0):
    return jax.nn.log_softmax(hidden @ head / temperature)


def at(log_p, tokens):
    return jnp.take_along_axis(log_p, tokens[..., None], -1)[..., 0]


def masked_mean(values, mask):
    return jnp.sum(values * mask) / jnp.sum(mask)


def same(recipe, dense, *arguments):
    """Value and gradients in hidden states and head."""
    g = given()
    moving = g["hidden"], g["head"]

    def both(loss):
        return quick_jit(jax.value_and_grad(lambda *a: loss(*a, g, *arguments), (0, 1)))(*moving)

    assert_close(both(recipe), both(dense), rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------------------------------------
# Policies
# ------------------------------------------------------------------------------------------------


def policy_loss(log_prob, entropy, g, clip=0.2, kl=0.1, bonus=0.01):
    """GRPO's and PPO's: clipped ratios, the k3 estimator of KL to a reference, entropy bonus."""
    ratio = jnp.exp(log_prob - g["old"])
    advantages = g["advantages"][:, None]
    gain = jnp.minimum(ratio * advantages, jnp.clip(ratio, 1 - clip, 1 + clip) * advantages)
    log_ratio = g["reference"] - log_prob
    k3 = jnp.expm1(log_ratio) - log_ratio
    return -masked_mean(gain - kl * k3 + bonus * entropy, g["mask"])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_grpo_and_ppo(temperature):
    def recipe(hidden, head, g):
        stats = linear_softmax_stats(
            hidden, head, g["tokens"], weights=g["mask"], temperature=temperature, block_size=4
        )
        return policy_loss(stats.log_prob, stats.entropy, g)

    def dense(hidden, head, g):
        log_p = dense_log_probs(hidden, head, temperature)
        entropy = -jnp.sum(jnp.exp(log_p) * log_p, -1)
        return policy_loss(at(log_p, g["tokens"]), entropy, g)

    same(recipe, dense)


def test_dpo():
    """Pairs of sequences in one batch: the sums of their log-probabilities, by segment."""

    def loss(log_prob, g, beta=0.3):
        pair = jnp.concatenate([log_prob * g["mask"], jnp.flip(log_prob * g["mask"], 0)])
        segments = jnp.repeat(jnp.arange(2 * B), T)
        of_sequence = jax.ops.segment_sum(pair.ravel(), segments, 2 * B)
        of_reference = jnp.sum(g["reference"] * g["mask"], 1)
        chosen = of_sequence[:B] - of_reference
        rejected = of_sequence[B:] - jnp.flip(of_reference)
        return -jnp.mean(jax.nn.log_sigmoid(beta * (chosen - rejected + 0.5)))

    def recipe(hidden, head, g):
        return loss(linear_log_softmax(hidden, head, g["tokens"], weights=g["mask"]), g)

    def dense(hidden, head, g):
        return loss(at(dense_log_probs(hidden, head), g["tokens"]), g)

    same(recipe, dense)


# ------------------------------------------------------------------------------------------------
# Teachers
# ------------------------------------------------------------------------------------------------


def test_on_policy_distillation():
    def recipe(hidden, head, g):
        return linear_softmax_js_divergence(
            hidden, head, g["other_hidden"], g["other_head"], beta=0.4, weights=g["mask"]
        )

    def dense(hidden, head, g):
        log_p = dense_log_probs(hidden, head)
        log_q = dense_log_probs(g["other_hidden"], g["other_head"])
        log_m = jnp.logaddexp(jnp.log(0.4) + log_q, jnp.log(0.6) + log_p)
        of_q = jnp.sum(jnp.exp(log_q) * (log_q - log_m), -1)
        of_p = jnp.sum(jnp.exp(log_p) * (log_p - log_m), -1)
        return masked_mean(0.4 * of_q + 0.6 * of_p, g["mask"])

    same(recipe, dense)


def test_teacher_of_k_classes_and_a_tail():
    """KL on K + 1 buckets: what the teacher saved, and all that it did not."""

    def recipe(hidden, head, g):
        saved, classes = linear_top_k(g["other_hidden"], g["other_head"], K)
        tail = jnp.log1p(-jnp.sum(jnp.exp(saved), -1))
        log_prob, rest = linear_log_softmax(hidden, head, classes, return_rest=True)
        losses = jnp.sum(jnp.exp(saved) * (saved - log_prob), -1) + jnp.exp(tail) * (tail - rest)
        return masked_mean(losses, g["mask"])

    def dense(hidden, head, g):
        log_q = dense_log_probs(g["other_hidden"], g["other_head"])
        log_p = dense_log_probs(hidden, head)
        order = jnp.argsort(-log_q, -1)
        q, p = (jnp.exp(jnp.take_along_axis(one, order, -1)) for one in (log_q, log_p))
        q, p = (
            jnp.concatenate([x[..., :K], x[..., K:].sum(-1, keepdims=True)], -1) for x in (q, p)
        )
        return masked_mean(jnp.sum(q * jnp.log(q / p), -1), g["mask"])

    same(recipe, dense)


def test_teacher_of_k_classes_without_a_tail():
    def recipe(hidden, head, g):
        saved, classes = linear_top_k(g["other_hidden"], g["other_head"], K)
        return linear_softmax_cross_entropy(
            hidden, head, classes, label_weights=jnp.exp(saved), weights=g["mask"]
        )

    def dense(hidden, head, g):
        log_q = dense_log_probs(g["other_hidden"], g["other_head"])
        threshold = -jnp.sort(-log_q, -1)[..., K - 1 : K]
        q = jnp.where(log_q >= threshold, jnp.exp(log_q), 0.0)
        return masked_mean(-jnp.sum(q * dense_log_probs(hidden, head), -1), g["mask"])

    same(recipe, dense)


# ------------------------------------------------------------------------------------------------
# Heads
# ------------------------------------------------------------------------------------------------


def test_several_tokens_to_come():
    """One feature predicts the next K tokens; beyond the end of the sequence there are none."""

    def next_tokens(tokens):
        places = jnp.arange(T)[:, None] + jnp.arange(K)[None, :]
        there = places < T
        return jnp.where(there[None], tokens[:, jnp.minimum(places, T - 1)], -1), there

    def recipe(hidden, head, g):
        labels, _ = next_tokens(g["tokens"])
        weights = jnp.broadcast_to(jnp.array([1.0, 0.5, 0.25]), labels.shape)
        return linear_softmax_cross_entropy(
            hidden, head, labels, label_weights=weights, ignore_index=-1, reduction="sum"
        )

    def dense(hidden, head, g):
        labels, there = next_tokens(g["tokens"])
        log_p = jnp.take_along_axis(dense_log_probs(hidden, head), jnp.maximum(labels, 0), -1)
        return -jnp.sum(jnp.where(there[None], jnp.array([[[1.0, 0.5, 0.25]]]) * log_p, 0.0))

    same(recipe, dense)


def test_clip():
    """Images and texts (N, D): each picks out its partner among all of the other kind."""

    def recipe(u, v, scale):
        pairs = jnp.arange(len(u))
        of_images = linear_softmax_cross_entropy(scale * u, v.T, pairs)
        return (of_images + linear_softmax_cross_entropy(scale * v, u.T, pairs)) / 2

    def dense(u, v, scale):
        logits = scale * u @ v.T
        diagonal = [jnp.diag(jax.nn.log_softmax(logits, axis)) for axis in (0, 1)]
        return -(jnp.mean(diagonal[0]) + jnp.mean(diagonal[1])) / 2

    g = given()
    args = g["hidden"].reshape(-1, D), g["other_hidden"].reshape(-1, D), jnp.asarray(3.0)
    ours, theirs = (quick_jit(jax.value_and_grad(f, (0, 1, 2)))(*args) for f in (recipe, dense))
    assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_sampled_softmax():
    """The label against sampled classes: -log q corrects for how they were drawn."""
    sampled, q = jnp.array([2, 3, 5, 7]), jnp.array([0.1, 0.2, 0.05, 0.15])

    def recipe(hidden, head, g):
        f, labels = hidden.reshape(-1, D), g["tokens"].ravel()
        of_label = jnp.sum(f * head[:, labels].T, 1, keepdims=True)
        # The first class is the label: a feature of its own, times 1.
        features = jnp.concatenate([f, of_label], 1)
        kernel = jnp.zeros((D + 1, 1 + len(sampled))).at[:D, 1:].set(head[:, sampled])
        kernel = kernel.at[D, 0].set(1.0)
        bias = jnp.concatenate([jnp.zeros(1), -jnp.log(q)])
        hits = sampled[None, :] == labels[:, None]
        where = jnp.concatenate([jnp.ones((len(f), 1), bool), ~hits], 1)
        first = jnp.zeros(len(f), jnp.int32)
        return linear_softmax_cross_entropy(features, kernel, first, bias, where=where)

    def dense(hidden, head, g):
        labels, logits = g["tokens"].ravel(), (hidden @ head).reshape(-1, C)
        of_label = at(logits, labels)
        others = logits[:, sampled] - jnp.log(q)[None, :]
        others = jnp.where(sampled[None, :] == labels[:, None], -1e30, others)
        log_z = jax.nn.logsumexp(jnp.concatenate([of_label[:, None], others], 1), 1)
        return jnp.mean(log_z - of_label)

    same(recipe, dense)


def test_accuracy_of_the_first_k():
    g = given()
    stats = linear_softmax_stats(g["hidden"], g["head"], g["tokens"])
    order = np.argsort(-np.asarray(g["hidden"] @ g["head"]), -1)
    for k in (1, 2, 5):
        right = np.any(order[..., :k] == np.asarray(g["tokens"])[..., None], -1)
        np.testing.assert_array_equal(stats.rank < k, right)
