"""A linear probe on saved embeddings, with the penalty chosen by cross-validation.

python examples/probe.py
"""

import tempfile
from pathlib import Path

import numpy as np

from jaxsoftmax.sklearn import SoftmaxClassifierCV

# What an encoder would have saved: one row of features an example, and a label.
random = np.random.default_rng(0)
centres = random.normal(size=(20, 128))
labels = random.integers(20, size=3000)
embeddings = (centres[labels] + 4 * random.normal(size=(3000, 128))).astype(np.float32)
folder = Path(tempfile.mkdtemp())
np.save(folder / "embeddings.npy", embeddings)

x = np.load(folder / "embeddings.npy", mmap_mode="r")
x = x / np.linalg.norm(x, axis=1, keepdims=True)
probe = SoftmaxClassifierCV(Cs=[0.1, 1.0, 10.0, 100.0], cv=3).fit(x[:2000], labels[:2000])
accuracy = probe.score(x[2000:], labels[2000:])
print(f"C {probe.C_:g}, {int(probe.n_iter_[0])} steps of Newton, accuracy {accuracy:.3f}")
for C, score in zip(probe.Cs_, probe.scores_.mean(axis=0), strict=True):
    print(f"  C {C:6g}: mean log-probability of the fold left out {score:.4f}")
assert accuracy > 0.5
