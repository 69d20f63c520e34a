from jaxsoftmax.testing._contenders import INTEGER as OP  # noqa: F401 - read by conftest.py


def bench_integer_loss(replay):
    replay()
