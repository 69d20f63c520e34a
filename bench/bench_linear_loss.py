from jaxsoftmax.testing._contenders import LINEAR as OP  # noqa: F401 - read by conftest.py


def bench_linear_loss(replay):
    replay()
