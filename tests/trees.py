"""Comparing pytrees of arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def assert_same(result: Any, expected: Any, *, rtol: float) -> None:
    """Same structure, shapes and dtypes; every leaf within `rtol` of its own largest element."""
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    paths = jax.tree.leaves_with_path(result)
    for (path, got), want in zip(paths, jax.tree.leaves(expected), strict=True):
        where = jax.tree_util.keystr(path)
        assert jnp.shape(got) == jnp.shape(want), where
        assert jnp.result_type(got) == jnp.result_type(want), where
        scale = np.max(np.abs(want), initial=0.0)
        np.testing.assert_allclose(got, want, rtol=0, atol=rtol * scale, err_msg=where)
