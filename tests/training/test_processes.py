"""Two processes of a run, as a user starts them by hand."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxsoftmax.training import data, trainer
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.runs import checkpoints, processes
from jaxsoftmax.training.runs.folder import METRICS

pytestmark = pytest.mark.default_modes  # optax promotes types inside its rules

TREE = {
    "data": {"source": "builtin", "name": "iris"},
    "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
    "model": {"l2": 1e-2},
    "solver": {"name": "adam", "epochs": 60, "batch_size": 31, "learning_rate": 0.05},
    "checkpoint": {"every_steps": 1},
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def started(port, number, config, run):
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=2")
    by_hand = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": str(number),
        "XLA_FLAGS": flags,
    }
    command = [sys.executable, "-m", "jaxsoftmax", "train", str(config), "--out", str(run)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ | by_hand)


def test_two_processes_stop_together_and_one_goes_on(tmp_path):
    """Each has two devices, one gets the signal, the first keeps the run."""
    config, run = tmp_path / "c.json", tmp_path / "run"
    config.write_text(json.dumps(TREE))
    port = free_port()
    with started(port, 0, config, run) as first, started(port, 1, config, run) as second:
        limit = time.monotonic() + 120
        while not any(found >= 3 for found in checkpoints.numbers(run)):
            assert first.poll() is None, first.communicate()
            assert time.monotonic() < limit
            time.sleep(0.01)
        second.send_signal(signal.SIGTERM)
        told = first.communicate(timeout=120)
        others = second.communicate(timeout=120)
    assert (first.returncode, second.returncode) == (143, 143), (told, others)
    assert f"go on with jaxsoftmax train --resume {run}" in told[1]
    assert "epoch" in told[0]
    assert "epoch" not in others[0]

    found = RunConfig.model_validate_json(json.dumps(TREE))
    dataset = data.prepare(found)
    checkpoint = checkpoints.latest(run, pytest.fail)
    assert checkpoint.card.steps < 180
    trainer.train(found, dataset, run, checkpoint=checkpoint)
    (tmp_path / "alone").mkdir()
    trainer.train(found, dataset, tmp_path / "alone")
    assert losses(run) == pytest.approx(losses(tmp_path / "alone"), rel=1e-5, abs=1e-5)


def losses(folder):
    lines = (folder / METRICS).read_text().splitlines()
    return np.array([json.loads(line)["train_loss"] for line in lines])


def test_one_process_asks_nobody(monkeypatch):
    monkeypatch.setattr(processes.multihost_utils, "process_allgather", pytest.fail)
    assert processes.agreed(15, True, 3) == (15, True, 3)
    processes.check_same("data", "x")
    assert processes.first()


def test_where_the_others_are_must_be_known(monkeypatch):
    for name in (*processes.COUNTS, "JAX_COORDINATOR_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    processes.join("auto")
    processes.join("off")
    with pytest.raises(InputError, match="mode = 'on': the other processes are not found"):
        processes.join("on")
