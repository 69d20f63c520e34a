"""The next word of a text, from numbers that stand for the words before it.

A word at distance j before the next one is what follows it there: row w of the counts

    √n_j(w, v) · P_j / √n_j(w),        n_j(w, v) how often v comes j words after w

in the training part, with P_j the leading right singular vectors of these counts, scaled. A row of
the training part would find itself in them, and learn to look itself up: its own word is taken out
of the counts that its features are made of.

Square roots of counts: Stratos, Collins & Hsu, Model-based word embeddings from decompositions of
count matrices, ACL 2015.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

Matrix = npt.NDArray[np.float64]
Words = npt.NDArray[np.int32]

WIDTHS = (80, 40, 16)  # numbers for the word before, the one before that, and so on
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[.,;:?!()]")
PARTS = ("train",) * 8 + ("validation", "test")  # of paragraphs, in turn
ROWS = 16_384  # at a time


class Text(NamedTuple):
    """A text as numbers of words.

    Attributes:
      words: The vocabulary, in alphabetical order; `len(words)` stands for nothing.
      before: ``(N, J)`` the word before, the one before that, …, within the paragraph.
      next: ``(N,)`` the word that follows.
      parts: ``(N,)`` the number of each row's part in ``PARTS``.
    """

    words: tuple[str, ...]
    before: Words
    next: Words
    parts: npt.NDArray[np.int8]


class Follower(NamedTuple):
    """What follows words at one distance, in the training part."""

    counts: sparse.csr_matrix  # (V + 1, V)
    often: npt.NDArray[np.float64]  # (V + 1,) rows after each word
    projection: Matrix  # (V, width)
    summed: Matrix  # (V + 1, width): √counts @ projection


def parsed(text: str, distances: int) -> Text:
    """Lower-case words and marks; a paragraph is a line, and belongs to one part."""
    paragraphs = [words for line in text.lower().splitlines() if (words := WORD.findall(line))]
    vocabulary = sorted({word for words in paragraphs for word in words})
    number = {word: i for i, word in enumerate(vocabulary)}
    before, parts = [], []
    for place, words in enumerate(paragraphs):
        padded = [len(vocabulary)] * distances + [number[word] for word in words]
        rows = np.lib.stride_tricks.sliding_window_view(np.array(padded, np.int32), distances)
        before.append(np.concatenate([rows[:-1, ::-1], rows[1:, -1:]], axis=1))
        part = ("train", "validation", "test").index(PARTS[place % len(PARTS)])
        parts.append(np.full(len(words), part, np.int8))
    both = np.concatenate(before)
    return Text(tuple(vocabulary), both[:, :-1], both[:, -1], np.concatenate(parts))


def followers(text: Text, widths: Sequence[int]) -> list[Follower]:
    """For each distance, from the training part alone."""
    train, size = text.parts == 0, len(text.words)
    found = []
    for distance, width in enumerate(widths):
        pairs = text.before[train, distance], text.next[train]
        ones = np.ones(int(train.sum()))
        counts = sparse.csr_matrix((ones, pairs), shape=(size + 1, size))
        roots = counts.sqrt()
        often = np.asarray(counts.sum(axis=1)).ravel()
        columns = np.maximum(np.asarray(counts.sum(axis=0)).ravel(), 1) ** -0.25
        rows = np.maximum(often, 1) ** -0.25
        weighed = sparse.diags(rows) @ roots @ sparse.diags(columns)
        _, _, vectors = randomized_svd(weighed, width, n_iter=4, random_state=0)
        projection = columns[:, np.newaxis] * vectors.T
        found.append(Follower(counts, often, projection, roots @ projection))
    return found


def features(text: Text, found: Sequence[Follower], rows: slice) -> npt.NDArray[np.float32]:
    """Those of some rows; rows of the training part do not count themselves."""
    own, labels = text.parts[rows] == 0, text.next[rows]
    parts = []
    for distance, (counts, often, projection, summed) in enumerate(found):
        words = text.before[rows, distance]
        mine = np.asarray(counts[words, labels]).ravel() * own
        less = np.sqrt(mine) - np.sqrt(np.maximum(mine - 1, 0))
        others = often[words] - own
        scale = np.where(others > 0, 1 / np.sqrt(np.maximum(others, 1)), 0)
        kept = summed[words] - less[:, np.newaxis] * projection[labels]
        parts.append(kept * scale[:, np.newaxis])
    return np.concatenate(parts, axis=1).astype(np.float32)


def tables(text: Text, found: Sequence[Follower], label: str) -> Iterator[pa.Table]:
    """Features, the next word, and the part it belongs to, some rows at a time."""
    words, parts = np.array(text.words), np.array(("train", "validation", "test"))
    for first in range(0, len(text.next), ROWS):
        rows = slice(first, first + ROWS)
        made = features(text, found, rows)
        columns = {
            "before": pa.FixedSizeListArray.from_arrays(pa.array(made.ravel()), made.shape[1]),
            label: pa.array(words[text.next[rows]]),
            "part": pa.array(parts[text.parts[rows]]),
        }
        yield pa.table(columns)
