r"""What is known of rows of which the classes pass by in parts, one after another.

Notation   of the classes so far: m the largest logit, r = Σ exp(x - m) without the class that
           attains it, A = Σ exp(x - m) (m - x); a' of a later part
Merge      with m' > m:  r ← r' + (1 + r) exp(m - m'),  A ← A' + exp(m - m') (A + (m' - m) (1 + r));
           else r ← r + Σ' exp(x - m),  A ← A + A'.  No term is negative.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxsoftmax.autodiff.select import select

from . import Row, likeliest, of_likeliest
from .exponentials import (
    finite,
    is_impossible,
    largest_exponential,
    row_max,
    weighted,
    zero_where,
)
from .label import nan_where


class Merged(NamedTuple):
    """Of the classes so far, (n, 1)."""

    max: Array  # m, -inf where all are impossible
    main: Array  # the number of the class that attains it, -1 if it has not half of its part
    others: Array  # r
    distance: Any = None  # A, if it is asked for

    def row(self) -> Row:
        """What is known of the rows, when all classes are."""
        largest = largest_exponential(self.max)
        nothing = nan_where(is_impossible(self.max), self.max.dtype)
        return of_likeliest(self.max, self.main, largest, self.others * largest + nothing)

    def mean_distance(self) -> Array:
        """d = Σ p∘(m - x)."""
        one = jnp.ones_like(self.others)
        d: Array = self.distance / (one + self.others)
        return d

    def and_part(self, x: Array, start: Any, distance: Any) -> Merged:
        """The same of some more classes.

        Args:
          x: their `stored` logits, (n, c).
          start: the number of the first.
          distance: (x, m) -> Σ exp(x - M) (m - x) of the part, or None.
        """
        top = row_max(x, 1)
        m = jnp.maximum(self.max, top)
        # All classes so far may be impossible.
        bounded = jnp.maximum(m, finite(jnp.full_like(m, -jnp.inf)))
        unit, one = largest_exponential(bounded), jnp.ones_like(m)
        k, e_k, others = likeliest(x, bounded, 1)
        higher = self.max < top
        has_main = e_k >= others
        rest = select(higher, select(has_main, others, others + e_k - unit), others + e_k) / unit
        start = jnp.asarray(start, k.dtype)
        main = select(higher, select(has_main, k + start, -1), self.main)
        none = is_impossible(self.max)
        step = zero_where(~higher | none, m - finite(self.max))
        share = zero_where(higher & none, jnp.exp(-step))
        before = select(higher, one + self.others, self.others) * share
        merged = Merged(m, main, rest + before)
        if distance is None:
            return merged
        far = share * (self.distance + weighted(one + self.others, step))
        return merged._replace(distance=distance(x, bounded) / unit + far)
