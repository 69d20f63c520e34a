"""A head whose classes lie on eight devices: nothing is gathered, and the code does not change.

python examples/sharded_head.py        # eight devices are made up on a CPU
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxsoftmax import linear_softmax_cross_entropy

N, D, C = 64, 32, 80_000
devices = jax.device_count()
mesh = jax.make_mesh((devices,), ("classes",), axis_types=(AxisType.Explicit,))
keys = jax.random.split(jax.random.key(0), 3)
features = jax.random.normal(keys[0], (N, D))
kernel = jax.random.normal(keys[1], (D, C)) * D**-0.5
labels = jax.random.randint(keys[2], (N,), 0, C)

step = jax.jit(jax.value_and_grad(linear_softmax_cross_entropy, argnums=(0, 1)))
value, (_, gradient) = step(features, kernel, labels)

placed = jax.device_put(kernel, NamedSharding(mesh, PartitionSpec(None, "classes")))
with jax.set_mesh(mesh):
    here = NamedSharding(mesh, PartitionSpec())
    spread, (_, parts) = step(
        *jax.device_put((features,), here), placed, jax.device_put(labels, here)
    )

print(f"one device {value:.6f}, {devices} devices {spread:.6f}; gradient {jax.typeof(parts)}")
assert abs(value - spread) < 1e-5
assert jnp.max(jnp.abs(jax.device_get(parts) - gradient)) < 1e-6
