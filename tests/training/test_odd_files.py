"""Every odd file is read as it was meant, or refused in a sentence; none is misunderstood."""

import json

import pytest

from jaxsoftmax.training import data
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.errors import InputError
from tests.training.odd_files import CASES


def prepared(path, **more):
    tree = {"data": {"path": str(path), "label": "y"} | more}
    return data.prepare(RunConfig.model_validate_json(json.dumps(tree)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_odd_file(case, tmp_path):
    path = tmp_path / case.name
    path.write_bytes(case.content)
    if callable(case.outcome):
        assert case.outcome(prepared(path, **case.data))
        return
    with pytest.raises(InputError) as failure:
        prepared(path, **case.data)
    message = str(failure.value).replace(f"{path}", "FILE")
    assert message == case.outcome or (
        case.outcome.endswith((" ", "'")) and message.startswith(case.outcome)
    )
