from jaxsoftmax.testing._contenders import LOGSUMEXP as OP  # noqa: F401 - read by conftest.py


def bench_logsumexp(replay):
    replay()
