"""Compiling programs that run a few times only: little optimisation, quickly done."""

from functools import partial
from typing import Any

import jax

_OPTIONS: dict[str, Any] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):
    # Its older way of writing kernels takes a third of the time; newer JAX has another one only.
    _OPTIONS["xla_cpu_use_fusion_emitters"] = False
    _OPTIONS["xla_llvm_disable_expensive_passes"] = True

jit = partial(jax.jit, compiler_options=_OPTIONS)
