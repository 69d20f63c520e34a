"""The installed package: what it offers, what it imports, what it needs."""

import importlib.metadata
import importlib.resources
import json
import subprocess
import sys
import types

import jaxsoftmax

PUBLIC = {
    "LossStats",
    "cross_entropy",
    "custom_rules",
    "kernels",
    "linear_log_softmax",
    "linear_softmax_cross_entropy",
    "linear_softmax_js_divergence",
    "linear_softmax_kl_divergence",
    "linear_softmax_stats",
    "linear_top_k",
    "log_softmax",
    "logsumexp",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "softmax_entropy",
    "softmax_jacobian",
    "sparsemax",
    "sparsemax_loss",
}


def loaded_by(statement):
    """The top-level modules that a fresh interpreter has after a statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_import_adds_only_the_package_to_what_jax_imports():
    assert loaded_by("import jax, jaxsoftmax") - loaded_by("import jax") == {"jaxsoftmax"}


def test_public_names():
    offered = {
        name
        for name, value in vars(jaxsoftmax).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert offered == PUBLIC
    assert [name for name in PUBLIC if not getattr(jaxsoftmax, name).__doc__] == []


def test_the_core_requires_jax_alone():
    required = importlib.metadata.requires("jaxsoftmax")
    assert [line for line in required if "extra ==" not in line] == ["jax>=0.10"]


def test_types_are_published():
    assert importlib.resources.files("jaxsoftmax").joinpath("py.typed").is_file()
