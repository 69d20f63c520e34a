"""What every test shares: eight CPU devices, JAX's strict modes, a key and 64-bit mode."""

import os

# XLA reads its flags once, so they are set before the first import of JAX. Eight devices let the
# tests of sharded losses run on any machine.
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    )
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Iterator
from typing import Any

import hypothesis
import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxsoftmax import kernels

# A silent promotion hides a wrong dtype or a missing axis: under test, both are errors.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The first example of a shape compiles, so time limits mean nothing; the same examples every run;
# and a fixture that sets a mode of JAX holds for all examples of a test.
hypothesis.settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=20, help="random inputs of each kind")


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> int:
    """How many random inputs a kind is tried with."""
    number: int = request.config.getoption("--fuzz")
    return number


@pytest.fixture(autouse=True)
def modes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Puts JAX's default modes back around a test marked ``default_modes``."""
    if request.node.get_closest_marker("default_modes") is None:
        yield
        return
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(autouse=True)
def draws(request: pytest.FixtureRequest) -> None:
    """Each test of a file draws from its generator what it would draw alone, in any order."""
    module = getattr(request.node, "module", None)
    for name in ("RNG", "RANDOM"):
        generator = getattr(module, name, None)
        if generator is not None:
            bits = generator.bit_generator
            bits.state = _STARTS.setdefault(f"{request.node.fspath}:{name}", bits.state)


_STARTS: dict[str, dict[str, Any]] = {}


@pytest.fixture(autouse=True, scope="module")
def programs() -> Iterator[None]:
    """Frees the compiled programs of a file; those of all files are more than a process may map."""
    yield
    jax.clear_caches()


@pytest.fixture
def forms() -> Iterator[None]:
    """JAX's forms for one test, and no row kernels."""
    with kernels("off"):
        yield


@pytest.fixture
def key() -> jax.Array:
    """A random key, the same in every test."""
    return jax.random.key(0)


@pytest.fixture
def x64() -> Iterator[None]:
    """64-bit types for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def equal_programs_are_compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For files of mutants, which share values, their differences and the textbook."""
    cache: dict[str, Any] = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in cache}
    _configure(cache)
    yield
    _configure(before)


def _configure(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # JAX looks at the settings of its cache once
