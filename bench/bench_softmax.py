from jaxsoftmax.testing._contenders import SOFTMAX as OP  # noqa: F401 - read by conftest.py


def bench_softmax(replay):
    replay()
