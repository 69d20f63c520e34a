"""`python -m bench.next_word`: what `configs/kjv.toml` is to beat, counted on the same rows.

The perplexity, on the test rows, of the frequencies of words and of an interpolated bigram with
absolute discounting (Kneser & Ney, Improved backing-off for m-gram language modeling, 1995). Words
that the training rows lack share what is spared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from jaxsoftmax.training.data.sources import builtin, next_word


class Perplexities(NamedTuple):
    """Of the test rows."""

    unigram: float
    bigram: float


def perplexities(text: next_word.Text) -> Perplexities:
    """Counted on the training rows."""
    train, test, size = text.parts == 0, text.parts == 2, len(text.words)
    before, after = text.before[:, 0], text.next
    ones = np.ones(int(train.sum()))
    counts = sparse.csr_matrix((ones, (before[train], after[train])), shape=(size + 1, size))
    once, twice = (int(np.sum(counts.data == n)) for n in (1, 2))
    discount = once / max(once + 2 * twice, 1)
    kinds = np.bincount(counts.indices, minlength=size)  # of words that each follows
    spared = discount * np.count_nonzero(kinds) / size
    lower = (np.maximum(kinds - discount, 0) + spared) / kinds.sum()
    total = np.asarray(counts.sum(axis=1)).ravel()
    rest = np.where(total > 0, discount * np.diff(counts.indptr) / np.maximum(total, 1), 1)
    mine = np.asarray(counts[before[test], after[test]]).ravel()
    first, label = before[test], after[test]
    bigram = np.maximum(mine - discount, 0) / np.maximum(total[first], 1)
    bigram += rest[first] * lower[label]
    alone = np.bincount(after[train], minlength=size) + 0.5
    unigram = alone[label] / alone.sum()
    return Perplexities(*(float(np.exp(-np.log(p).mean())) for p in (unigram, bigram)))


if __name__ == "__main__":
    words, _ = builtin._bible()
    found = perplexities(words)
    print(f"frequencies of words {found.unigram:.1f}, smoothed bigram {found.bigram:.1f}")
