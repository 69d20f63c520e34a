"""Newton's method with products with the Hessian: ten steps to the optimum of a linear probe.

python examples/newton.py
"""

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from sklearn.datasets import load_iris

from jaxsoftmax import linear_softmax_cross_entropy

jax.config.update("jax_enable_x64", True)
features, labels = load_iris(return_X_y=True)
x = jnp.asarray((features - features.mean(0)) / features.std(0))
x = jnp.concatenate([x, jnp.ones((len(x), 1))], axis=1)
y = jnp.asarray(labels, jnp.int32)


def objective(kernel):
    return linear_softmax_cross_entropy(x, kernel, y) + 0.5e-3 * jnp.sum(kernel**2)


@jax.jit
def newton(kernel):
    gradient = jax.grad(objective)(kernel)

    def hessian_product(v):  # forward over reverse: both hand-written rules, streamed
        return jax.jvp(jax.grad(objective), (kernel,), (v,))[1]

    step, _ = cg(hessian_product, gradient, tol=1e-10)
    return kernel - step, jnp.max(jnp.abs(gradient))


kernel = jnp.zeros((5, 3))
for i in range(10):
    kernel, size = newton(kernel)
    print(f"step {i}: largest entry of the gradient {size:.1e}")
assert size < 1e-10
