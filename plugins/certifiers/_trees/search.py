"""Best-first search for the nearest adversarial example of a tree ensemble, exact if it ends.

A box of inputs is bounded from below by the smallest radius at which the sum over trees of the worst reachable leaf
changes the answer (Chen et al., NeurIPS 2019, section 3). The box of the smallest bound is split where the worst leaves
contradict each other; if they do not, a point in all of them is an adversarial example.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmark.api import Norm

from .leaves import Leaves, length

__all__ = ["nearest"]

Wrong = Callable[[np.ndarray], bool]
"""True if the system classifies an input (D,) as another class than the true one."""


@dataclass(frozen=True)
class _Box:
    """Inputs between `low` and `high` (D,), inclusive, and the leaves that they reach, packed bits of (L,)."""

    low: np.ndarray
    high: np.ndarray
    reached: np.ndarray


@dataclass(frozen=True)
class _Bound:
    """Lower bound of the distance to a success in a box, and where to split the box.

    point: success in the box, (D,), or None. far: its distance. feature, last: the box is split after `last` in
    `feature`.
    """

    radius: float
    point: np.ndarray | None
    far: float
    feature: int
    last: np.float32


def nearest(
    leaves: Leaves, x: np.ndarray, y: int, norm: Norm, *, wrong: Wrong, boxes: int, slack: float
) -> tuple[float, np.ndarray | None]:
    """Distance from `x` (D,) float32 to the nearest input that is taken for another class than `y`.

    Differences of scores of at most `slack` are ties: `wrong` is asked once for all inputs in the same leaves.

    Returns:
        The distance and the input, (D,). After `boxes` splits a lower bound of the distance, and None; infinity and
        None if there is no such input in [0, 1].
    """
    searches = [
        _Search(leaves, x, other, y, norm, wrong, slack) for other in range(leaves.value.shape[1]) if other != y
    ]
    features, counter = len(x), itertools.count()
    all_leaves = np.packbits(np.ones(len(leaves.tree), bool))
    whole = _Box(np.zeros(features, np.float32), np.ones(features, np.float32), all_leaves)
    queue: list[tuple[float, int, _Search | np.ndarray, _Box, _Bound]] = []
    best = np.inf

    def push(search: _Search, box: _Box) -> None:
        nonlocal best
        bound = search.bound(box)
        if bound is None or bound.radius >= best:
            return
        if bound.point is not None and bound.far < best:
            best = bound.far
            heapq.heappush(queue, (best, next(counter), bound.point, box, bound))
        if bound.far > bound.radius:
            heapq.heappush(queue, (bound.radius, next(counter), search, box, bound))

    for search in searches:
        push(search, whole)
    for _ in range(boxes):
        if not queue:
            return np.inf, None
        radius, _, what, box, bound = heapq.heappop(queue)
        if isinstance(what, np.ndarray):
            return radius, what
        for part in what.halves(box, bound):
            push(what, part)
    return (queue[0][0] if queue else np.inf), None


class _Search:
    """Leaves by tree and distance from `x`, and what each adds to `other` - `y`: the same in every box."""

    def __init__(
        self, leaves: Leaves, x: np.ndarray, other: int, y: int, norm: Norm, wrong: Wrong, slack: float
    ) -> None:
        self.x, self.norm, self.wrong = x, norm, wrong
        far = length(leaves.gaps(x), norm)
        order = np.lexsort((far, leaves.tree))
        self.far, self.tree = far[order], leaves.tree[order]
        self.low, self.high = leaves.low[order], leaves.high[order]
        self.gain = (leaves.value[:, other] - leaves.value[:, y])[order]
        lead = float(leaves.start[y] - leaves.start[other])
        self.aim, self.sure = lead - slack, lead + slack
        self.shift = self.tree * float(1.0 + np.ptp(self.gain))

    def bound(self, box: _Box) -> _Bound | None:
        """Bound of the distance within the box, None if no input in it succeeds."""
        at = np.flatnonzero(np.unpackbits(box.reached, count=len(self.tree)))
        start = self._apart(box.low, box.high)
        gain, far = self.gain[at], np.maximum(self.far[at], start)
        raised = gain + self.shift[at]
        most = np.maximum.accumulate(raised)  # within a tree, as each is raised above the one before
        first = np.diff(self.tree[at], prepend=-1) > 0
        rise = np.where(first, 0.0, np.diff(most - self.shift[at], prepend=0.0))
        by_far = np.argsort(far, kind="stable")
        total = gain[first].sum() + np.cumsum(rise[by_far])
        enough = int(np.searchsorted(total, self.aim))
        if enough == len(total):
            return None
        radius = float(far[by_far[enough]])
        worst = np.maximum.accumulate(np.where(raised == most, np.arange(len(at)), 0))
        ends = np.append(np.flatnonzero(first)[1:], len(at)) - np.add.reduceat(far > radius, np.flatnonzero(first)) - 1
        chosen = at[worst[ends]]
        low, high = np.maximum(self.low[chosen].max(0), box.low), np.minimum(self.high[chosen].min(0), box.high)
        apart = low.astype(np.float64) - high
        if (apart > 0).any():
            feature = int(apart.argmax())
            return _Bound(radius, None, np.inf, feature, high[feature])
        point, here = np.clip(self.x, low, high), np.clip(self.x, box.low, box.high)
        if self.gain[chosen].sum() > self.sure or self.wrong(point):
            feature, last = _face(low, high, here, here)
            return _Bound(radius, point, self._apart(low, high), feature, last)
        if (low == box.low).all() and (high == box.high).all():
            return None
        return _Bound(radius, None, np.inf, *_face(low, high, box.low, box.high))

    def _apart(self, low: np.ndarray, high: np.ndarray) -> float:
        x = self.x.astype(np.float64)
        return float(length(np.maximum(np.maximum(low - x, x - high), 0.0), self.norm))

    def halves(self, box: _Box, bound: _Bound) -> tuple[_Box, _Box]:
        """The box up to the bound's split, and beyond it."""
        reached = np.unpackbits(box.reached, count=len(self.tree)).astype(bool)
        high, low = box.high.copy(), box.low.copy()
        high[bound.feature], low[bound.feature] = bound.last, np.nextafter(bound.last, np.float32(np.inf))
        below = reached & (self.low[:, bound.feature] <= high[bound.feature])
        above = reached & (self.high[:, bound.feature] >= low[bound.feature])
        return _Box(box.low, high, np.packbits(below)), _Box(low, box.high, np.packbits(above))


def _face(low: np.ndarray, high: np.ndarray, first: np.ndarray, last: np.ndarray) -> tuple[int, np.float32]:
    """Feature and largest value of the lower half of a split at the face between `low` and `high` (D,) that is farthest
    from the other corner, `first` or `last` (D,)."""
    beyond = np.stack([low.astype(np.float64) - first, last.astype(np.float64) - high])
    side, feature = divmod(int(beyond.argmax()), len(low))
    return feature, high[feature] if side else np.nextafter(low[feature], np.float32(-np.inf))
