"""Distillation without logits in memory: a small student learns from a large teacher's head.

python examples/distillation.py
"""

import jax
import jax.numpy as jnp
import optax

from jaxsoftmax import linear_softmax_kl_divergence

N, TEACHER, STUDENT, CLASSES = 4096, 64, 16, 5000
keys = jax.random.split(jax.random.key(0), 4)
teacher_features = jax.random.normal(keys[0], (N, TEACHER))
teacher_kernel = jax.random.normal(keys[1], (TEACHER, CLASSES)) * TEACHER**-0.5
inputs = teacher_features @ jax.random.normal(keys[2], (TEACHER, STUDENT)) * TEACHER**-0.5
params = {
    "hidden": jnp.eye(STUDENT),
    "kernel": jax.random.normal(keys[3], (STUDENT, CLASSES)) * 0.01,
}


def loss(params):
    features = inputs @ params["hidden"]
    return linear_softmax_kl_divergence(
        features, params["kernel"], teacher_features, teacher_kernel
    )


adam = optax.adam(0.05)


@jax.jit
def step(params, state):
    value, gradient = jax.value_and_grad(loss)(params)
    updates, state = adam.update(gradient, state)
    return optax.apply_updates(params, updates), state, value


state, first = adam.init(params), float(loss(params))
for _ in range(20):
    params, state, value = step(params, state)
scratch = step.lower(params, state).compile().memory_analysis().temp_size_in_bytes
print(f"KL {first:.4f} -> {value:.4f} nats; scratch {scratch / 2**20:.1f} MiB,", end=" ")
print(f"where the logits of both alone are {2 * N * CLASSES * 4 / 2**20:.1f} MiB")
assert value < 0.8 * first
