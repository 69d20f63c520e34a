from jaxsoftmax.testing._contenders import DISTRIBUTION as OP  # noqa: F401 - read by conftest.py


def bench_distribution_loss(replay):
    replay()
