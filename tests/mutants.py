"""A function made of a textbook formula and rules in parts, and whether the harness accepts it.

Right rules survive, and each mutant, one part replaced as by a slip of the pen, must not.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp

from jaxsoftmax import custom_rules
from tests import oracle
from tests.rules import hold

Parts = dict[str, Callable[..., Any]]


def survives(f: Callable[..., Any], *args: Any, oracle: Callable[..., Any]) -> bool:
    """Whether the harness accepts f; order 2 is asked for where order 1 finds nothing."""
    accepts = partial(hold, f, *args, oracle=oracle, dtypes=(), vmap=False)
    return all(accepts(order=order).ok for order in (1, 2))


def total(x: Any, axis: int = -1) -> Any:
    return jnp.sum(x, axis, keepdims=True)


def elementwise(textbook: Callable[..., Any], parts: Parts) -> custom_rules:
    """An activation: p is saved, and the maps are `jvp` and `vjp`."""
    f = custom_rules(lambda x: textbook(x, xp=jnp))
    saved = parts.get("saved", lambda p: p)
    f.defrules(
        lambda x: (f(x), saved(parts.get("p", oracle.softmax)(x, xp=jnp))),
        parts["jvp"],
        lambda p, b: (parts["vjp"](p, b),),
    )
    return f
