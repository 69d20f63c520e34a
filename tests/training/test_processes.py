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

from jaxsoftmax.training import data
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.runs import checkpoints, loop, processes, resume, sharing
from jaxsoftmax.training.sparse import SparseRows

pytestmark = pytest.mark.default_modes  # optax promotes types inside its rules

TREE = {
    "data": {"source": "builtin", "name": "iris"},
    "split": {"train": 0.6, "validation": 0.2, "test": 0.2},
    "model": {"l2": 1e-2},
    "solver": {"name": "adam", "epochs": 40, "batch_size": 31, "learning_rate": 0.05},
    "checkpoint": {"every_steps": 1},
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def started(port, number, *command):
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=2")
    by_hand = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": str(number),
        "XLA_FLAGS": flags,
    }
    pipe, env = subprocess.PIPE, os.environ | by_hand
    return subprocess.Popen(
        [sys.executable, *map(str, command)], stdout=pipe, stderr=pipe, text=True, env=env
    )


def test_two_processes_stop_together_and_one_goes_on(tmp_path):
    """Each has two devices, one gets the signal, the first keeps the run."""
    config, run = tmp_path / "c.json", tmp_path / "run"
    config.write_text(json.dumps(TREE))
    port = free_port()
    command = "-m", "jaxsoftmax", "train", config, "--out", run
    with started(port, 0, *command) as first, started(port, 1, *command) as second:
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
    work = loop.prepare(found, dataset)
    checkpoint = checkpoints.latest(run, pytest.fail)
    assert checkpoint.card.steps < 120
    again, alone = resume.state_of(work, checkpoint), loop.begin(work)
    assert losses(work, again) == pytest.approx(losses(work, alone), rel=1e-5, abs=1e-5)


# Which rows of features a process takes out of its memory map, and which lie on its devices.
READING = """
import sys
from pathlib import Path
import numpy as np
from jaxsoftmax.training.config import load_config
from jaxsoftmax.training.runs import job, processes, sharing

processes.join("on")

class Watched:
    def __init__(self, array):
        self.array, self.shape, self.read = array, array.shape, set()

    def __getitem__(self, part):
        found = self.array[part]
        if isinstance(part, slice):  # a view, of which nobody takes anything
            return found
        assert np.shares_memory(found, self.array)
        self.read |= set(range(len(self.array))[part[0]])
        return found

config = load_config(Path(sys.argv[1]))
parse = sharing.data.prepare
parsed = []
sharing.data.prepare = lambda config: parsed.append(config) or parse(config)
dataset = sharing.prepare(config, print)
assert isinstance(dataset.features, np.memmap)
watched = Watched(dataset.features)
made = job.prepare(config, dataset._replace(features=watched))
features = made.rows.features
there = [np.asarray(shard.data) for shard in features.addressable_shards]
spans = [range(features.shape[0])[shard.index[0]] for shard in features.addressable_shards]
right = all((dataset.features[s.start : s.stop] == part).all() for s, part in zip(spans, there))
lines = Path("/proc/self/smaps").read_text().splitlines()
place = next(i for i, line in enumerate(lines) if ".f32" in line)
size, resident = (
    int(next(line for line in lines[place:] if line.startswith(name)).split()[1])
    for name in ("Size:", "Rss:")
)
print(min(watched.read), max(watched.read) + 1, len(watched.read), features.shape[0], right)
print(len(parsed), dataset.fingerprint)
print(resident / size)
"""


@pytest.mark.once
def test_each_of_two_processes_reads_its_own_rows_of_the_features(tmp_path):
    """And neither holds more of them in memory, whatever the cache has."""
    config = tmp_path / "c.json"
    made_up = {"synthetic": {"rows": 2560, "features": 512, "classes": 20}, "cache": str(tmp_path)}
    config.write_text(json.dumps(TREE | {"data": made_up}))
    port = free_port()
    command = "-c", READING, config
    with started(port, 0, *command) as first, started(port, 1, *command) as second:
        told = [process.communicate(timeout=120) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), told
    # 2,560 rows, 2,048 of which train and validate, on two devices of two processes
    words = [out.split()[-8:] for out, _ in told]
    assert [found[:-2] for found in words] == [
        ["0", "1024", "1024", "2048", "True", "1"],  # the first has read the source
        ["1024", "2048", "1024", "2048", "True", "0"],  # and the second what came of it
    ]
    assert words[0][-2] == words[1][-2]  # fingerprints
    shares = [float(found[-1]) for found in words]
    assert shares == pytest.approx([0.4, 0.4], abs=0.05)  # 1,024 of 2,560


# The first process reads for ever, and the second waits for it.
WAITING = """
import sys, time
from pathlib import Path
from jaxsoftmax.training.config import load_config
from jaxsoftmax.training.runs import processes, sharing

def parse(config):
    print("parsing", flush=True)
    time.sleep(1000)

sharing.data.prepare = parse
processes.join("on")
sharing.prepare(load_config(Path(sys.argv[1])), print)
"""


@pytest.mark.once
def test_who_waits_ends_with_the_one_that_is_killed_while_it_reads(tmp_path):
    config = tmp_path / "c.json"
    config.write_text(json.dumps(TREE | {"data": TREE["data"] | {"cache": str(tmp_path)}}))
    port = free_port()
    command = "-c", WAITING, config
    with started(port, 0, *command) as first, started(port, 1, *command) as second:
        while "parsing" not in first.stdout.readline():
            assert first.poll() is None
        first.kill()
        told, _ = second.communicate(timeout=100)
    assert second.returncode != 0
    assert "parsing" not in told


def test_who_waits_ends_where_the_first_could_not_read(tmp_path, monkeypatch):
    folder = tmp_path / "data-x"
    folder.mkdir()
    monkeypatch.setattr(sharing.time, "sleep", lambda seconds: folder.rmdir())
    with pytest.raises(InputError, match="the first process could not read the data, and says why"):
        sharing._awaited(folder)


@pytest.mark.parametrize("sparse", [False, True])
def test_what_is_shared_is_the_same(sparse, tmp_path, monkeypatch):
    monkeypatch.setattr(data.cache, "too_large", lambda shape, config: True)
    (tmp_path / "x.svm").write_text(
        "".join(f"{i % 2} {i % 90 + 1}:1.5 {i % 7 + 91}:{i}\n" for i in range(400))
    )
    tree = TREE["data"] if not sparse else {"path": str(tmp_path / "x.svm")}
    tree = TREE | {"data": tree | {"cache": str(tmp_path)}}
    found = data.prepare(RunConfig.model_validate_json(json.dumps(tree)))
    assert isinstance(found.features, SparseRows) == sparse
    sharing.write(found, tmp_path)
    again = sharing.read(tmp_path)
    assert again._replace(features=0, labels=0, weights=0, rows=0) == found._replace(
        features=0, labels=0, weights=0, rows=0
    )
    assert data.dataset.fingerprint(again) == found.fingerprint
    assert (again.rows == found.rows).all()


def test_without_a_folder_that_all_see_each_reads(monkeypatch):
    told = []
    monkeypatch.setattr(sharing, "_agreed_on", lambda folder: None)
    found = sharing._read(RunConfig.model_validate_json(json.dumps(TREE)), told.append)
    assert len(found.labels) == 150
    assert "share no folder" in told[0]


def losses(work, state):
    while not loop.finished(work, state):
        state = loop.advance(work, state)
    return np.array([record.train_loss for record in state.records])


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
