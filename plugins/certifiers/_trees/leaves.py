"""Leaves of tree ensembles as closed boxes of single-precision numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmark.api import Norm, Refused

__all__ = ["Leaves", "Node", "length"]

MOST = 2**24
"""Largest number of leaves times features, 64 MiB for each side of the boxes."""


class Node(NamedTuple):
    """Node of a tree; inputs with `x[feature] <= threshold`, both float32, go left.

    value: scores that a leaf adds, (K,) float64; an inner node has None.
    """

    value: np.ndarray | None
    feature: int = 0
    threshold: float = 0.0
    left: int = 0
    right: int = 0


@dataclass(frozen=True)
class Leaves:
    """Leaves of all trees within [0, 1], those of a tree together.

    low, high: (L, D) float32, both inclusive. value: (L, K) float64, added to the scores. tree: (L,) int64, ascending.
    start: (K,) float64, initial scores.
    """

    low: np.ndarray
    high: np.ndarray
    value: np.ndarray
    tree: np.ndarray
    start: np.ndarray

    @classmethod
    def of(cls, trees: Sequence[Sequence[Node]], features: int, start: np.ndarray) -> Leaves:
        """Boxes of the leaves of trees, whose roots are their first nodes.

        Raises:
            Refused: if there are too many.
        """
        count = sum(node.value is not None for tree in trees for node in tree)
        if count * features > MOST:
            raise Refused(
                f"certifier.tree: the ensemble has {count} leaves over {features} features, and their product may be "
                f"at most {MOST}; choose fewer or smaller trees, or no certifier"
            )
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]] = []
        for place, tree in enumerate(trees):
            rest = [(0, np.zeros(features, np.float32), np.ones(features, np.float32))]
            while rest:
                at, low, high = rest.pop()
                node = tree[at]
                if node.value is not None:
                    found.append((low, high, node.value, place))
                    continue
                split = np.float32(node.threshold)
                if low[node.feature] <= split:
                    below = high.copy()
                    below[node.feature] = min(high[node.feature], split)
                    rest.append((node.left, low, below))
                if high[node.feature] > split:
                    above = low.copy()
                    above[node.feature] = max(low[node.feature], np.nextafter(split, np.float32(np.inf)))
                    rest.append((node.right, above, high))
        low, high, value, tree_of = zip(*found, strict=True)
        return cls(np.stack(low), np.stack(high), np.stack(value), np.array(tree_of), start)

    def total(self, x: np.ndarray) -> np.ndarray:
        """Scores of inputs (B, D) float32, (B, K) float64."""
        inside = [((self.low <= row) & (row <= self.high)).all(1) for row in x]
        return np.stack([self.start + self.value[mask].sum(0) for mask in inside])

    def gaps(self, x: np.ndarray) -> np.ndarray:
        """Distance of `x` (D,) from each box in each feature, (L, D) float64."""
        at = x.astype(np.float64)
        return np.asarray(np.maximum(np.maximum(self.low - at, at - self.high), 0.0), np.float64)


def length(gaps: np.ndarray, norm: Norm) -> np.ndarray:
    """Norm over the last dimension."""
    if norm is Norm.linf:
        found = gaps.max(-1)
    elif norm is Norm.l0:
        found = np.count_nonzero(gaps, -1).astype(np.float64)
    else:
        found = gaps.sum(-1) if norm is Norm.l1 else np.sqrt(np.square(gaps).sum(-1))
    return np.asarray(found, np.float64)
