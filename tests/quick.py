"""Compiling quickly, for tests of mathematics in float64 with a margin for rounding.

Most time of this suite is spent in the compiler, so a test that compiles a program to run it once
asks for little optimisation. Not for tests of accuracy, of NaN, of memory or of compiled programs:
what users get is compiled as users compile it.
"""

from functools import partial
from typing import Any

import jax

_OPTIONS: dict[str, Any] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):
    # The older way of writing kernels takes a third of the time; newer JAX has another one only.
    _OPTIONS["xla_cpu_use_fusion_emitters"] = False
    _OPTIONS["xla_llvm_disable_expensive_passes"] = True

quick_jit = partial(jax.jit, compiler_options=_OPTIONS)
