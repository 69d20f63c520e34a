from jaxsoftmax.testing._contenders import LOG_SOFTMAX as OP  # noqa: F401 - read by conftest.py


def bench_log_softmax(replay):
    replay()
