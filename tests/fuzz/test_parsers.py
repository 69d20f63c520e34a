"""Every parser, on damaged files and on any bytes; ``./run fuzz`` goes on for as long as it may."""

import contextlib

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from jaxsoftmax.training.errors import InputError

from .parsers import PARSERS, outcome


@st.composite
def damaged(draw, seeds):
    """A seed with some bytes changed, left out or said twice; or any bytes at all."""
    content = draw(st.sampled_from(seeds) if seeds else st.binary(max_size=200))
    for _ in range(draw(st.integers(0, 3))):
        first, second = sorted(draw(st.integers(0, len(content))) for _ in range(2))
        new = draw(st.sampled_from([b"", b"\0", b"\xff\xfe", b'"', b"[" * 2000, b"9" * 400, b"-1"]))
        content = content[:first] + new + content[draw(st.sampled_from([first, second])) :]
    return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def accepted(parser, place, content):
    with contextlib.suppress(InputError):
        return bool(parser.read(place, content))


@pytest.mark.once
@pytest.mark.parametrize("name", PARSERS)
def test_a_value_or_a_refusal(name, folder):
    parser, place = PARSERS[name], folder / name
    place.mkdir()
    read = [seed for seed in parser.seeds if accepted(parser, place, seed)]
    assert read  # else nothing that is made of them would get beyond the first refusal

    @settings(max_examples=40)
    @given(damaged(parser.seeds))
    def read(content):
        outcome(parser, place, content)

    read()
