"""The head of a language model on paper: what its rows tell, from dense logits."""

from typing import Any

import jax
import jax.numpy as jnp

from tests.ops.linear_problem import problem

PICKS = 3


def dense_logits(
    features, kernel, bias, temperature=1.0, *, logit_softcap=None, where=None, **_: Any
):
    """(N, C), as the classifier sees them."""
    z = features @ kernel + bias[None, :]
    z = z if logit_softcap is None else logit_softcap * jnp.tanh(z / logit_softcap)
    z = z / temperature
    return z if where is None else jnp.where(where, z, -jnp.inf)


def dense_stats(logits, labels):
    """Logsumexp, log-probability of the label, entropy."""
    log_p = jax.nn.log_softmax(logits)
    there = ~jnp.isneginf(log_p)
    safe = jnp.where(there, log_p, 0.0)
    plogp = jnp.where(there, jnp.exp(safe) * safe, 0.0)
    log_prob = jnp.take_along_axis(log_p, labels[:, None], 1)[:, 0]
    return jax.nn.logsumexp(logits, -1), log_prob, -jnp.sum(plogp, -1)


def dense_log_probs(logits, picks):
    """Log-probabilities of the picks (N, K), and the logarithm of the rest's (N,)."""
    log_p = jax.nn.log_softmax(logits)
    number = jnp.arange(logits.shape[1], dtype=picks.dtype)
    is_picked = jnp.any(number[None, None, :] == picks[:, :, None], 1)
    rest = jax.nn.logsumexp(jnp.where(is_picked, -jnp.inf, log_p), -1)
    return jnp.take_along_axis(log_p, picks, 1), rest


def picks_of(rows, classes, count=PICKS):
    """Classes of each row, of which some are the same."""
    return jax.random.randint(jax.random.key(8), (rows, count), 0, classes)


def point(dtype, **shape):
    """Features, kernel, bias and temperature; labels."""
    features, kernel, bias, _, labels = problem(dtype, **shape)
    return (features, kernel, bias, jnp.asarray(0.7, dtype)), labels


def weighted_sum(tree):
    """A scalar in which each number counts, differently and not linearly."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    terms = []
    for k, x in enumerate(leaves):
        u = jnp.cos(jnp.arange(x.size, dtype=x.dtype) + k).reshape(x.shape)
        terms.append(jnp.sum(u * x + jnp.square(x) / 4))
    return jnp.sum(jnp.stack(terms))
