"""``jaxsoftmax env``."""

from __future__ import annotations


def env() -> None:
    """What is in use here, and why not: JAX, devices, row kernels, huge pages."""
    import platform
    from importlib.metadata import version

    import jax

    from jaxsoftmax import native

    library = native.library()
    if native.mode() == "off":
        kernels = "not in use: JAXSOFTMAX_KERNELS=off"
    elif library.instructions is None:
        kernels = f"not in use: {library.why_not}"
    else:
        kernels = f"{library.instructions}, {library.path.name if library.path else ''}"
    pages = native.huge_pages()
    asked = "asked for" if native.asked_for() else "not asked for"
    lines = {
        "jaxsoftmax": version("jaxsoftmax"),
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "JAX": f"{jax.__version__}, jaxlib {version('jaxlib')}",
        "devices": f"{jax.device_count()} of {jax.devices()[0].device_kind}",
        "row kernels": kernels,
        "huge pages": f"{pages}, {asked} by malloc (GLIBC_TUNABLES=glibc.malloc.hugetlb=1)",
    }
    for name, value in lines.items():
        print(f"{name:12} {value}")
