"""Give your own function both rules, and find out when one of them is wrong.

python examples/custom_rules.py
"""

import jax
import jax.numpy as jnp

from jaxsoftmax import custom_rules
from jaxsoftmax.testing import check_rules


@custom_rules
def softplus(x):
    return jnp.logaddexp(x, 0.0)


softplus.defrules(
    fwd=lambda x: (softplus(x), jax.nn.sigmoid(x)),  # the value, and what to keep
    jvp=lambda slope, x_dot: slope * x_dot,
    vjp=lambda slope, y_bar: (slope * y_bar,),
)

x = jnp.linspace(-3.0, 3.0, 7)
print(jax.vmap(jax.grad(softplus))(x))  # reverse
print(jax.jvp(softplus, (x,), (jnp.ones_like(x),))[1])  # forward
print(jax.vmap(jax.hessian(softplus))(x))  # forward over reverse
assert check_rules(softplus, x).ok


@custom_rules
def wrong(x):
    return jnp.logaddexp(x, 0.0)


wrong.defrules(
    fwd=lambda x: (wrong(x), jax.nn.sigmoid(x)),
    jvp=lambda slope, x_dot: slope * x_dot,
    vjp=lambda slope, y_bar: (slope * (1 - slope) * y_bar,),  # a slip: the second derivative
)
report = check_rules(wrong, x)
print(report)
assert not report.ok
