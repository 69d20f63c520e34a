"""Every odd file is read as it was meant, or refused in a sentence; none is misunderstood."""

import pytest

from tests.training.odd_files import CASES, complaint

pytestmark = pytest.mark.once


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_odd_file(case, tmp_path):
    assert complaint(case, tmp_path) == ""
