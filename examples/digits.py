"""A digits classifier in ten lines: the loss of the last layer is the whole model.

python examples/digits.py
"""

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from jaxsoftmax import linear_softmax_cross_entropy, softmax

features, labels = load_digits(return_X_y=True)
x, y = jnp.asarray(features / 16, jnp.float32), jnp.asarray(labels, jnp.int32)
train, test = slice(0, 1500), slice(1500, None)

params = {"kernel": jnp.zeros((64, 10)), "bias": jnp.zeros(10)}
adam = optax.adam(0.05)


def loss(params):
    return linear_softmax_cross_entropy(x[train], params["kernel"], y[train], params["bias"])


@jax.jit
def step(params, state):
    value, gradient = jax.value_and_grad(loss)(params)
    updates, state = adam.update(gradient, state)
    return optax.apply_updates(params, updates), state, value


state = adam.init(params)
for _ in range(200):
    params, state, value = step(params, state)

p = softmax(x[test] @ params["kernel"] + params["bias"])
accuracy = float(jnp.mean(p.argmax(-1) == y[test]))
print(f"train loss {value:.4f}, test accuracy {accuracy:.4f}")
assert accuracy > 0.9
