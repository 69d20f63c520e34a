"""A program that two processes run together: `python two_processes.py ADDRESS NUMBER`.

Four devices, two in each process. The rows are spread over one axis of the mesh and the classes
over the other, and each axis is once the one that crosses the processes.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsoftmax import (
    linear_log_softmax,
    linear_softmax_cross_entropy,
    linear_softmax_js_divergence,
    linear_softmax_kl_divergence,
    linear_softmax_row_loss,
    linear_softmax_stats,
    linear_top_k,
)

SPECS = P("data", None), P(None, "model"), P("data"), P("model")


def problem():
    random = np.random.default_rng(0)
    return (
        random.normal(size=(8, 3)).astype(np.float32),
        random.normal(size=(3, 6)).astype(np.float32),
        random.integers(0, 6, 8, dtype=np.int32),
        random.normal(size=6).astype(np.float32),
    )


def token_loss(stats, arrays):
    return arrays * jnp.exp(stats.log_prob) - stats.entropy


@jax.jit
def heads(features, kernel, labels, bias):
    """What else is told of rows, and the gradients of a sum of all of it."""
    several = jnp.stack([labels, 5 - labels, labels], 1)
    shares = jnp.cos(jnp.arange(24.0)).reshape(8, 3)

    def values(features, kernel, bias):
        size = {"block_size": 2, "temperature": 2.0}
        sides = features, kernel, features[:, ::-1], kernel[::-1], bias
        rows = {"weights": shares[:, 0] + 2, "reduction": "none"}
        return (
            linear_log_softmax(features, kernel, several, bias, return_rest=True, **size),
            linear_softmax_cross_entropy(
                features, kernel, several, bias, label_weights=shares, **rows, **size
            ),
            linear_softmax_row_loss(
                features, kernel, labels, bias, loss=token_loss, arrays=shares[:, 1], **size
            ),
            linear_softmax_kl_divergence(*sides, labels=labels, **rows, **size),
            linear_softmax_js_divergence(*sides, beta=0.3, **rows, **size),
            linear_top_k(features, kernel, 3, bias, **size),
        )

    def total(*arrays):
        found = values(*arrays)
        smooth = (x for x in jax.tree.leaves(found) if jnp.issubdtype(x.dtype, jnp.floating))
        return sum(jnp.sum(jnp.sin(x)) for x in smooth), found

    bars, found = jax.grad(total, (0, 1, 2), has_aux=True)(features, kernel, bias)
    return *bars, *jax.tree.leaves(found)


@jax.jit
def step(features, kernel, labels, bias):
    gradient = jax.value_and_grad(linear_softmax_cross_entropy, (0, 1, 3))
    loss, bars = gradient(features, kernel, labels, bias, label_smoothing=0.1, block_size=2)

    def values(kernel):
        stats = linear_softmax_stats(features, kernel, labels, bias, block_size=2)
        return jnp.sum(jnp.sin(stats.log_prob) + stats.entropy), stats

    of_stats, stats = jax.grad(values, has_aux=True)(kernel)
    return loss, *bars, of_stats, *stats


def main(address, number):
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, num_processes=2, process_id=number)
    arrays = problem()
    # What else heads tell takes long to compile: only where classes cross the processes.
    for names, functions in ((("data", "model"), [step]), (("model", "data"), [step, heads])):
        mesh = jax.make_mesh((2, 2), names, axis_types=(AxisType.Explicit,) * 2)
        there = [
            jax.make_array_from_callback(a.shape, NamedSharding(mesh, spec), a.__getitem__)
            for a, spec in zip(arrays, SPECS, strict=True)
        ]
        for function in functions:
            for ours, one in zip(function(*there), function(*arrays), strict=True):
                assert len(ours.sharding.device_set) == 4
                for shard in ours.addressable_shards:
                    right = np.asarray(one)[shard.index]
                    np.testing.assert_allclose(shard.data, right, rtol=1e-5, atol=1e-5)
        print("equal", *names, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
