"""Files of data that are odd, change, or mean harm; settings at the end of what makes sense."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from jaxsoftmax.cli import main
from jaxsoftmax.training import data, evaluation, trainer
from jaxsoftmax.training.config import RunConfig, load_config
from jaxsoftmax.training.data import dataset as datasets
from jaxsoftmax.training.data.sources import csv
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.runs import checkpoints, folder, loop, resume
from jaxsoftmax.training.sums import SUMS, seal
from tests.training.odd_files import CASES, complaint, npy, npz, prepared

from .scene import Scene, Tally, digest

ROWS = 60


def odd(scene: Scene, budget: int) -> Tally:
    """What people report trouble with: read as it was meant, or refused by line and column."""
    tally, place = Tally(), scene.new("odd")
    for case in CASES[:: max(1, len(CASES) // budget)]:
        wrong = complaint(case, place)
        tally.note(not wrong, f"{case.name}: {wrong}")
    return tally


def labels(scene: Scene, budget: int) -> Tally:
    """Labels of every type: each value is a class of its own, or the file is refused."""
    del budget
    tally, path = Tally(), scene.new("labels") / "t.npz"
    numbers = np.arange(ROWS) % 3
    for name, values, classes in (
        ("negative", np.array([-1, 0, 7])[numbers], ("-1", "0", "7")),
        ("bytes", np.array([43, 255, 0], np.uint8)[numbers], ("0", "43", "255")),
        ("beyond 32 bits", np.array([1, 2**32 + 1, 2])[numbers], ("1", "2", "4294967297")),
        ("near 64 bits", np.array([1, 2**63 + 1, 2], np.uint64)[numbers], None),
        ("fractions", np.array([0.5, 1.5, 1.0])[numbers], ("0.5", "1", "1.5")),
        ("whole floats", np.array([2.0, 10.0, 1.0])[numbers], ("1", "2", "10")),
        ("not a number", np.where(np.arange(ROWS) == 7, np.nan, numbers), None),
        ("infinite", np.where(np.arange(ROWS) == 7, np.inf, numbers), None),
        ("one class", np.zeros(ROWS), None),
        ("booleans", numbers > 0, ("false", "true")),
        ("big-endian", numbers.astype(">i4"), ("0", "1", "2")),
        ("two columns", np.stack([numbers, numbers], 1), None),
        ("complex", numbers * 1j, None),
        ("times", numbers.astype("datetime64[D]"), None),
    ):
        path.write_bytes(npz(x=np.random.default_rng(0).normal(size=(ROWS, 2)), y=values))
        try:
            found = prepared(path).classes
        except InputError as error:
            tally.note(classes is None and str(path) in str(error), f"{name}: {error}")
        else:
            texts = tuple(map(str, np.unique(values).tolist()))
            tally.note(found == classes or (classes is None and found == texts), f"{name}: {found}")
    return tally


def rewritten(scene: Scene, budget: int) -> Tally:
    """A file that is changed: while it is read, while a run trains on it, before it goes on."""
    tally, place = Tally(), scene.new("rewritten")
    path = place / "t.csv"
    random = np.random.default_rng(0)
    lines = [
        f"{a:.4f},{b:.4f},{'xyz'[i % 3]}\n" for i, (a, b) in enumerate(random.normal(size=(600, 2)))
    ]
    text = "a,b,y\n" + "".join(lines)
    changes: dict[str, Callable[[], object]] = {
        "append": lambda: path.write_text(text + lines[0]),
        "one digit": lambda: path.write_text(text.replace("0", "1", 1)),
        "truncate": lambda: path.write_text(text[: len(text) // 2]),
        "rows in another order": lambda: path.write_text("a,b,y\n" + "".join(lines[::-1])),
        "replace": lambda: path.write_text("a,b,y\n1,2,u\n3,4,v\n" * 20),
        "delete": path.unlink,
    }
    tree = {
        "data": {"path": str(path), "label": "y"},
        "model": {"l2": 0.01},
        "solver": {"name": "sgd", "epochs": 2, "batch_size": 60, "learning_rate": 0.1},
    }
    config = RunConfig.model_validate_json(json.dumps(tree))
    path.write_text(text)
    job = loop.prepare(config, data.prepare(config))
    end = loop.begin(job)
    while not loop.finished(job, end):
        end = loop.advance(job, end)
    for name, change in [*changes.items()][:budget]:
        path.write_text(text)
        tally.note(_while_read(config, change, path), f"{name} while it is read")
        path.write_text(text)
        mine = loop.prepare(config, data.prepare(config))
        state = loop.advance(mine, loop.begin(mine), 3)
        run = scene.new("rewritten")
        checkpoints.save(run, 3, state, keep=1)
        change()
        while not loop.finished(mine, state):
            state = loop.advance(mine, state)
        tally.note(digest(state) == digest(end), f"{name} while it trains")
        try:
            checkpoint = checkpoints.latest(run, lambda message: None)
            resume.check(checkpoint, config, data.prepare(config), ())
        except InputError as error:
            tally.note("data" in str(error) or str(path) in str(error), f"{name}: {error}")
        else:
            tally.note(False, f"{name} before it goes on: not noticed")
    return tally


def _while_read(config: RunConfig, change: Callable[[], object], path: Path) -> bool:
    """Whether a change between two looks is refused; large files are looked at three times."""
    held, block, numbered = datasets.HELD, csv.BLOCK, datasets.labels.number
    datasets.HELD, csv.BLOCK = 0, 1000

    def number(*arguments: Any, **options: Any) -> Any:
        change()
        return numbered(*arguments, **options)

    datasets.labels.number = number
    try:
        data.prepare(config)
    except InputError as error:
        return str(path) in str(error)
    finally:
        datasets.HELD, csv.BLOCK, datasets.labels.number = held, block, numbered
    return False


class Canary:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        """The file."""
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        """What a pickle does."""
        return (os.mkdir, (str(self.path),))


def hostile(scene: Scene, budget: int) -> Tally:
    """Files made to run code, to fill memory or to write elsewhere: refused, nothing happens."""
    tally, place = Tally(), scene.new("hostile")
    canary = place / "canary"
    bomb = pickle.dumps(Canary(canary))
    objects = npy(np.array([Canary(canary)] * ROWS, dtype=object), allow_pickle=True)
    deep = b"[" * 100_000
    yaml = f'!!python/object/apply:os.mkdir ["{canary}"]\n'.encode()
    header = b"\x93NUMPY\x01\x00" + (60_000).to_bytes(2, "little") + b"{" * 60_000
    huge = npy(np.zeros(4)).replace(b"(4,), }", b"(4000000000000,), }".ljust(19))
    tensors = (1 << 62).to_bytes(8, "little") + b"{}"
    files = {
        "a.pkl": bomb, "a.npy": bomb, "a.npz": bomb, "a.csv": bomb, "objects.npy": objects,
        "objects.npz": _zip({"x.npy": npy(np.ones((ROWS, 2))), "y.npy": objects}),
        "deep.jsonl": deep, "deep.json": deep, "yaml.csv": yaml, "yaml.yaml": yaml,
        "header.npy": header, "huge.npy": huge, "huge.safetensors": tensors,
        "outside.npz": _zip({"../../x.npy": npy(np.ones((ROWS, 2))), "../../y.npy": objects}),
        "zip.npz": _zip({"x.npy": bytes(1 << 27), "y.npy": bytes(1 << 27)}),
        "env.csv": b"a,b,y\n" + b"$(mkdir canary),`mkdir canary`,${HOME}\n" * ROWS,
    }  # fmt: skip
    for name, content in files.items():
        path = place / name
        path.write_bytes(content)
        tally.note(_refused(lambda path=path: prepared(path)) and not canary.exists(), name)
        path.unlink()
    for name, content in {
        "pickle.toml": bomb, "yaml.toml": yaml, "deep.toml": b"a = " + deep, "deep.json": deep,
        "digits.toml": b"seed = " + b"9" * 5000, "digits.json": b'{"seed": ' + b"9" * 5000 + b"}",
        "class.toml": b'[solver]\nname = "os.system"\n[data]\nname = "iris"',
        "nan.json": b'{"seed": NaN, "data": {"name": "iris"}}',
    }.items():  # fmt: skip
        path = place / name
        path.write_bytes(content)
        tally.note(_refused(lambda path=path: load_config(path)) and not canary.exists(), name)
    _runs(scene, tally, bomb, canary)
    _links(scene, tally, budget)
    return tally


def _runs(scene: Scene, tally: Tally, bomb: bytes, canary: Path) -> None:
    """Runs and checkpoints whose sums are right and whose files are not, or are links."""
    for name in ("model.safetensors", "model.json", "config.json", "summary.json"):
        run = scene.new("hostile")
        shutil.copytree(scene.finished, run, dirs_exist_ok=True)
        (run / name).write_bytes(bomb)
        folder.complete(run)
        refused = _refused(lambda run=run: evaluation.evaluate(run))
        tally.note(refused and not canary.exists(), f"sealed {name}")
        (run / name).unlink()
        (run / name).symlink_to(scene.finished / name)
        if name != "config.json":
            tally.note(_refused(lambda run=run: folder.read_summary(run)), f"linked {name}")
    for name in (checkpoints.CARD, checkpoints.ARRAYS):
        run = scene.saved([5])
        path = checkpoints.place_of(run, 5)
        (path / name).write_bytes(bomb)
        seal(path, (checkpoints.ARRAYS, checkpoints.CARD))
        read = _refused(lambda path=path: checkpoints.read(path))
        tally.note(read and not canary.exists(), f"sealed {name}")
        (path / name).unlink()
        (path / name).symlink_to(checkpoints.place_of(scene.saved([5]), 5) / name)
        tally.note(_refused(lambda path=path: checkpoints.read(path)), f"linked {name}")


def _links(scene: Scene, tally: Tally, budget: int) -> None:
    """Links in the folder of a new run, to a file that is somebody else's."""
    run, victim = scene.new("links"), scene.new("victim") / "precious"
    for name in (folder.LOCK, folder.METRICS, folder.CONFIG, SUMS, "model.json")[:budget]:
        victim.write_text("precious")
        (run / name).symlink_to(victim)
        with contextlib.suppress(InputError, OSError):
            claim = folder.claim(run, "x", overwrite=True)
            trainer.train(scene.job.config, scene.job.dataset, claim.folder)
            claim.publish()
        tally.note(victim.read_text() == "precious", f"{name}: wrote through a link")
        shutil.rmtree(run)
        run.mkdir()


def _zip(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


def _refused(read: Callable[[], object]) -> bool:
    try:
        read()
    except InputError:
        return True
    return False


# What is set, and the exit codes that are right.
SETTINGS: dict[str, tuple[dict[str, Any], set[int]]] = {
    "a rate of 0": ({"solver.learning_rate": 0}, {2}),
    "a rate without end": ({"solver.learning_rate": "inf"}, {2}),
    "a rate of 1e30": ({"solver.learning_rate": 1e30, "solver.name": "sgd"}, {1}),
    "a rate of 1e-30": ({"solver.learning_rate": 1e-30}, {0}),
    "no epoch": ({"solver.epochs": 0}, {2}),
    "a batch of 1": ({"solver.batch_size": 1, "solver.epochs": 1}, {0}),
    "a batch of all": ({"solver.batch_size": 90}, {0}),
    "a batch of more": ({"solver.batch_size": 91}, {2}),
    "a penalty of 1e30": ({"model.l2": 1e30, "solver.name": "sgd"}, {1}),
    "a penalty of 1e38": ({"model.l2": 1e38}, {0, 1}),
    "a seed of 2^32": ({"seed": 1 << 32}, {2}),
    "more devices": ({"mesh.data": 4096}, {2}),
}


def extremes(scene: Scene, budget: int) -> Tally:
    """Settings at the end of what makes sense, or beyond: a run, or a sentence with its code."""
    tally = Tally()
    for name, (settings, codes) in [*SETTINGS.items()][: max(budget, 1)]:
        given = {"solver.epochs": 2} | settings
        sets = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
        run, told = scene.new("extremes"), io.StringIO()
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            try:
                main(["train", str(scene.config), "--out", str(run), *sets])
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            except Exception as error:  # noqa: BLE001 - anything else is what we look for
                code, told = -1, io.StringIO(repr(error))
        whole = (run / SUMS).exists() == (code == 0)
        said = code == 0 or bool(told.getvalue().strip())
        tally.note(code in codes and whole and said, f"{name}: exit code {code}: {told.getvalue()}")
    tally.note(_one_row(scene), "one row")
    return tally


def _one_row(scene: Scene) -> bool:
    path = scene.new("one") / "t.csv"
    path.write_text("a,y\n1,x\n")
    return _refused(lambda: prepared(path))


def separable(scene: Scene, budget: int) -> Tally:
    """Rows that a plane separates, without a penalty: for ever better, and never an infinity."""
    path = scene.new("separable") / "t.npz"
    random = np.random.default_rng(0)
    x, y = random.normal(size=(ROWS, 2)), np.arange(ROWS) % 2
    path.write_bytes(npz(x=x + 6 * y[:, np.newaxis], y=y))
    tree = {
        "data": {"path": str(path)},
        "model": {"l2": 0.0},
        "solver": {"name": "sgd", "epochs": budget, "learning_rate": 1.0},
    }
    config = RunConfig.model_validate_json(json.dumps(tree))
    job = loop.prepare(config, data.prepare(config))
    state = loop.begin(job)
    while not loop.finished(job, state):
        state = loop.advance(job, state)
    losses = np.array([record.objective for record in state.records])
    kernel = np.asarray(state.solver.params.kernel)
    tally = Tally()
    tally.note(bool(np.isfinite(kernel).all() and np.isfinite(losses).all()), "finite")
    tally.note(bool((np.diff(losses) <= 1e-7 * losses[:-1]).all()), "the loss never rises")
    tally.note(0 < losses[-1] < losses[len(losses) // 2] < losses[0], "and never stands still")
    tally.note(float(state.solver.gradient_norm) > 0, "the gradient is not lost")
    return tally


def optimum(scene: Scene, budget: int) -> Tally:
    """The optimum of scikit-learn's logistic regression, by every solver that converges."""
    tally = Tally()
    names = ("iris", "wine", "breast_cancer", "digits", "made")[:budget]
    for name in names:
        for solver in ("newton_cg", "lbfgs", "fista"):
            source: dict[str, object] = {"name": name}
            if name == "made":
                source = {"path": str(_made(scene))}
            tree = {
                "data": source,
                "model": {"l2": 1e-2},
                "solver": {"name": solver, "tolerance": 1e-6, "max_iterations": 5000},
            }
            config = RunConfig.model_validate_json(json.dumps(tree))
            dataset = data.prepare(config)
            job = loop.prepare(config, dataset)
            state = loop.begin(job)
            while not loop.finished(job, state):
                state = loop.advance(job, state)
            part = dataset.part("train")
            x = np.asarray(part.features, np.float64)
            # Of two classes it has one vector, the difference of ours, and so twice their penalty.
            strength = (2 if len(dataset.classes) == 2 else 1) / (1e-2 * len(x))
            peer = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000)
            peer.fit(x, part.labels)
            best = _objective(x, part.labels, *_params(peer, len(dataset.classes)))
            params = state.solver.params
            mine = _objective(x, part.labels, np.asarray(params.kernel), np.asarray(params.bias))
            tally.note(mine - best < 1e-6, f"{name}, {solver}: {mine} for {best}")
    return tally


def _made(scene: Scene) -> Path:
    path = scene.new("made") / "t.npz"
    random = np.random.default_rng(3)
    y = np.arange(400) % 5
    path.write_bytes(npz(x=random.normal(size=(400, 8)) + random.normal(size=(5, 8))[y], y=y))
    return path


def _params(peer: Any, classes: int) -> tuple[Any, Any]:
    kernel, bias = peer.coef_.T, peer.intercept_
    if classes == 2:
        return np.hstack([-kernel / 2, kernel / 2]), np.hstack([-bias / 2, bias / 2])
    return kernel, bias


def _objective(x: Any, y: Any, kernel: Any, bias: Any) -> float:
    logits = x @ kernel.astype(np.float64) + bias
    top = logits.max(axis=1)
    total = top + np.log(np.exp(logits - top[:, np.newaxis]).sum(axis=1))
    penalty = 0.5e-2 * (kernel.astype(np.float64) ** 2).sum()
    return float(np.mean(total - logits[np.arange(len(y)), y]) + penalty)
