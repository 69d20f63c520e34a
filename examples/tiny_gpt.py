"""A tiny GPT, twice: its head as logits and optax's loss, and as one call that holds no logits.

    python examples/tiny_gpt.py

The curves are equal. Memory and time are those of the whole step.
"""

import time

import jax
import jax.numpy as jnp
import optax

import jaxsoftmax

V, D, T, B, LAYERS, STEPS = 50_257, 64, 128, 4, 2, 5


def init(key):
    def normal(shape, scale=0.02):
        nonlocal key
        key, use = jax.random.split(key)
        return scale * jax.random.normal(use, shape)

    block = {"qkv": (D, 3 * D), "out": (D, D), "up": (D, 4 * D), "down": (4 * D, D)}
    blocks = {name: normal((LAYERS, *shape)) for name, shape in block.items()}
    return {"embedding": normal((V, D)), "position": normal((T, D)), "blocks": blocks}


def norm(x):
    return (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)


@jax.checkpoint
def block(x, p):
    q, k, v = jnp.split(norm(x) @ p["qkv"], 3, axis=-1)
    past = jnp.tril(jnp.ones((T, T), bool))
    weights = jaxsoftmax.softmax(q @ k.mT / D**0.5, where=past)
    x = x + weights @ v @ p["out"]
    return x + jax.nn.gelu(norm(x) @ p["up"]) @ p["down"], None


def features(params, tokens):
    x = params["embedding"][tokens] + params["position"]
    return norm(jax.lax.scan(block, x, params["blocks"])[0]).reshape(-1, D)


def with_logits(params, tokens, labels):
    logits = features(params, tokens) @ params["embedding"].T
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def streamed(params, tokens, labels):
    f, head = features(params, tokens), params["embedding"].T
    return jaxsoftmax.linear_softmax_cross_entropy(f, head, labels)


def train(loss, tokens):
    adam, params = optax.adam(1e-3), init(jax.random.key(0))

    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params, tokens[:, :-1], tokens[:, 1:].ravel())
        updates, state = adam.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state, curve = adam.init(params), []
    compiled = jax.jit(step).lower(params, state).compile()
    start = time.perf_counter()
    for _ in range(STEPS):
        params, state, value = compiled(params, state)
        curve += [round(float(value), 5)]
    scratch = compiled.memory_analysis().temp_size_in_bytes / 2**20
    return curve, scratch, (time.perf_counter() - start) / STEPS


text = jnp.minimum(jax.random.geometric(jax.random.key(1), 0.01, (B, T + 1)), V - 1)
for loss in (with_logits, streamed):
    curve, scratch, seconds = train(loss, text)
    print(f"{loss.__name__:11} {scratch:4.0f} MiB, {seconds:.2f} s a step, loss", curve)
