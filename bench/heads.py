"""What a policy loss and distillation cost on a head, in this package's forms and in others.

    python -m bench.heads            1024×512×16000 in four blocks; printed
    python -m bench.heads --small    64×32×2000, to see that it runs

A clipped policy loss with an entropy bonus, also by a scan of checkpointed chunks; KL from a
teacher with the cross-entropy to labels; and what else heads are asked for. Value and gradient in
features and kernel. Products of features and kernel and scratch memory are what the compiler says,
times are medians of rounds in turns, as a share of the mean cross-entropy's with a 95 % interval.
The last line is the error of a bfloat16 kernel's gradient, summed over 1024 chunks, from that in
float32.
"""

from __future__ import annotations

import argparse
import functools
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxsoftmax import (
    linear_log_softmax,
    linear_softmax_cross_entropy,
    linear_softmax_js_divergence,
    linear_softmax_kl_divergence,
    linear_softmax_row_loss,
    linear_softmax_stats,
    linear_top_k,
)
from jaxsoftmax.testing.cost.timing import in_turns, ratio

BLOCKS, MANY = 4, 1024


class Given(NamedTuple):
    """Rows of a batch, and what the loss compares their log-probabilities with."""

    labels: Any
    old: Any
    advantage: Any


class Stats(NamedTuple):
    log_prob: Any
    entropy: Any


def token_loss(stats: Any, given: Any) -> Any:
    """Of each token: PPO's clipped gain and an entropy bonus."""
    ratio = jnp.exp(stats.log_prob - given.old)
    gain = jnp.minimum(ratio * given.advantage, jnp.clip(ratio, 0.8, 1.2) * given.advantage)
    return -(gain + 0.01 * stats.entropy)


def through_stats(f: Any, w: Any, given: Given, size: int) -> Any:
    stats = linear_softmax_stats(f, w, given.labels, block_size=size)
    return jnp.mean(token_loss(stats, given))


def row_loss(f: Any, w: Any, given: Given, size: int) -> Any:
    how = {"loss": token_loss, "arrays": given, "block_size": size}
    return linear_softmax_row_loss(f, w, given.labels, **how)


def cross_entropy(f: Any, w: Any, given: Given, size: int) -> Any:
    return linear_softmax_cross_entropy(f, w, given.labels, block_size=size)


def checkpointed(f: Any, w: Any, given: Given, size: int) -> Any:
    """Chunks of dense rows, computed again on the way back: how JAX trainers do it."""

    @jax.checkpoint
    def chunk(w: Any, f: Any, y: Any) -> Stats:
        log_p = jax.nn.log_softmax((f @ w).astype(jnp.float32))
        entropy = -jnp.sum(jnp.exp(log_p) * log_p, -1)
        return Stats(jnp.take_along_axis(log_p, y[:, None], 1)[:, 0], entropy)

    rows = f.reshape(-1, size, f.shape[1]), given.labels.reshape(-1, size)
    stats = lax.scan(lambda _, x: (None, chunk(w, *x)), None, rows)[1]
    return jnp.mean(token_loss(Stats(*(v.ravel() for v in stats)), given))


def distilled(f: Any, w: Any, given: Given, size: int) -> Any:
    """From a teacher that knows other features."""
    how = {"temperature": 2.0, "block_size": size, "labels": given.labels, "label_weights": 0.5}
    return linear_softmax_kl_divergence(f, w, f[::-1], w[:, ::-1], **how)


def distilled_in_two(f: Any, w: Any, given: Given, size: int) -> Any:
    how = {"temperature": 2.0, "block_size": size}
    divergence = linear_softmax_kl_divergence(f, w, f[::-1], w[:, ::-1], **how)
    return divergence + 0.5 * cross_entropy(f, w, given, size)


def log_probabilities(f: Any, w: Any, given: Given, size: int) -> Any:
    log_p = linear_log_softmax(f, w, given.labels, block_size=size)
    return -jnp.mean(given.advantage * log_p)


def several_labels(f: Any, w: Any, given: Given, size: int) -> Any:
    """The likeliest classes that a teacher has saved."""
    labels = (given.labels[:, None] + jnp.arange(8, dtype=given.labels.dtype)) % w.shape[1]
    shares = jnp.full(labels.shape, 1 / 8, f.dtype)
    return linear_softmax_cross_entropy(f, w, labels, label_weights=shares, block_size=size)


def on_policy(f: Any, w: Any, given: Given, size: int) -> Any:
    """From the teacher of `distilled`, the other way round."""
    del given
    return linear_softmax_kl_divergence(f, w, f[::-1], w[:, ::-1], reverse=True, block_size=size)


def between(f: Any, w: Any, given: Given, size: int) -> Any:
    del given
    return linear_softmax_js_divergence(f, w, f[::-1], w[:, ::-1], block_size=size)


def likeliest(f: Any, w: Any, given: Given, size: int) -> Any:
    """Eight classes of each row, and the gradient of their log-probabilities."""
    del given
    return jnp.mean(linear_top_k(f, w, 8, block_size=size)[0])


FORMS = {
    "mean cross-entropy": cross_entropy,
    "linear_softmax_stats": through_stats,
    "linear_softmax_row_loss": row_loss,
    "scan of jax.checkpoint": checkpointed,
    "linear_log_softmax": log_probabilities,
    "eight labels a row": several_labels,
    "linear_top_k": likeliest,
    "KL with labels": distilled,
    "KL and cross-entropy": distilled_in_two,
    "reverse KL": on_policy,
    "JS divergence": between,
}


def problem(rows: int, features: int, classes: int) -> tuple[Any, Any, Given]:
    """Features, a kernel, and the rest."""
    keys = jax.random.split(jax.random.key(0), 4)
    f = jax.random.normal(keys[0], (rows, features))
    w = jax.random.normal(keys[1], (features, classes)) * features**-0.5
    labels = jax.random.randint(keys[2], (rows,), 0, classes)
    old = jax.nn.log_softmax(f[:1] @ w)[0, labels]
    return f, w, Given(labels, old, jax.random.normal(keys[3], (rows,)))


def step(form: Any, size: int) -> Any:
    """Value and gradient."""
    return jax.jit(jax.value_and_grad(functools.partial(form, size=size), (0, 1)))


def costs(shape: tuple[int, int, int], seconds: float) -> None:
    """A line for each form: products, scratch memory, time."""
    f, w, given = problem(*shape)
    size, programs = shape[0] // BLOCKS, {}
    for name, form in FORMS.items():
        compiled = step(form, size).lower(f, w, given).compile()
        programs[name] = functools.partial(compiled, f, w, given)
        # The loop over blocks is counted once.
        products = BLOCKS * compiled.cost_analysis()["flops"] / (2 * f.size * shape[2])
        scratch = compiled.memory_analysis().temp_size_in_bytes / 2**20
        print(f"{name}: {products:.2f} products, {scratch:.0f} MiB of scratch memory", flush=True)
    samples = in_turns(programs, seconds=seconds)
    for name, taken in samples.items():
        print(f"{name}: {ratio(taken, samples['mean cross-entropy'])} of the mean's time")


def errors(rows: int, features: int, classes: int) -> None:
    """Of the gradient in a bfloat16 kernel."""
    f, w, given = problem(rows, features, classes)
    half = f.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
    wide = (a.astype(jnp.float32) for a in half)
    right = step(row_loss, rows)(*wide, given)[1][1]
    for name in ("linear_softmax_stats", "linear_softmax_row_loss", "scan of jax.checkpoint"):
        found = step(FORMS[name], rows // MANY)(*half, given)[1][1].astype(jnp.float32)
        error = jnp.linalg.norm(found - right) / jnp.linalg.norm(right)
        print(f"{name}: kernel's gradient in bfloat16, {MANY} chunks, off by {error:.2e}")


def main(argv: list[str] | None = None) -> int:
    """Prints all of it."""
    parser = argparse.ArgumentParser(prog="bench.heads", description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="to see that it runs")
    small = parser.parse_args(argv).small
    costs((64, 32, 2000) if small else (1024, 512, 16000), 0.2 if small else 20.0)
    errors(MANY if small else 4 * MANY, 16, 64)
    return 0


if __name__ == "__main__":
    sys.exit(main())
