"""Compiling programs that run a few times only."""

import functools

import jax

# Twice as quick to compile; a checker spends its time there.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
