"""Decision-based attacks: first adversarial inputs, and bisection back towards the clean ones."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import OWNED, Ball, Norm, SampleRandom, distance, rows_norm

from .._base.best import Best
from .._base.vectors import columns
from .queries import Oracle

__all__ = [
    "TreeSum", "bisect", "blend", "drawn_at_once", "first_wins", "found", "offer_nearer", "only_clean", "owned",
    "starts",
]  # fmt: skip


DRAWN = 1 << 17
"""Random numbers that are drawn at once at most: 1 MiB while they are drawn."""


def offer_nearer(best: Best, ball: Ball, index: Tensor, x_adv: Tensor) -> Tensor:
    """Offer successes `x_adv` (b, *S) of the examples `index` (b,), the nearest first; (b,) bool, which are nearer.

    best: made by :func:`only_clean`; its value is minus the distance, float64. ball: of all examples.
    """
    far = distance(x_adv, ball.x[index], ball.norm)
    return best.offer(index, x_adv, torch.ones_like(far, dtype=torch.bool), -far)


def found(best: Best) -> Tensor:
    """Examples with a success other than the clean input, (n,) int64."""
    return (best.won & (best.value < 0)).nonzero().squeeze(1)


class TreeSum:
    """A sum of tensors (b, *S), added in pairs, and the pairs in pairs.

    Its bits do not depend on how many are added at a time, if that is a power of two (of the last ones, any number).
    """

    def __init__(self) -> None:
        self._parts: list[tuple[int, Tensor]] = []  # of falling size, each the sum of 2^level of them

    def add(self, values: Tensor) -> None:
        """Add `values` (b, n, *S) along their second axis."""
        level = 0
        while values.shape[1] > 1:
            if values.shape[1] % 2:
                values = torch.cat([values, torch.zeros_like(values[:, :1])], 1)
            values, level = values[:, 0::2] + values[:, 1::2], level + 1
        total = values[:, 0]
        while self._parts and self._parts[-1][0] == level:
            total, level = self._parts.pop()[1] + total, level + 1
        self._parts.append((level, total))

    def total(self) -> Tensor:
        """(b, *S)."""
        *before, (_, total) = self._parts
        for _, part in reversed(before):
            total = part + total
        return total


def drawn_at_once(oracle: Oracle, count: int, size: int) -> int:
    """Number of directions of `size` features to draw at once for each of `count` examples, a power of two.

    Enough to fill a pass, and more where that is little memory: then drawing them takes little time beside asking.
    """
    enough = oracle.group(count, size)
    if oracle.target.certain:
        enough = max(enough, DRAWN // max(1, count * size))
    return 1 << (enough.bit_length() - 1)


def first_wins(oracle: Oracle, ball: Ball, rng: SampleRandom, *, tries: int, name: str) -> Best:
    """First adversarial inputs: the clean ones where they succeed, else those of :func:`starts`.

    At most `tries` + OWNED + 2 queries per example.
    """
    nearest = only_clean(oracle, ball)
    index = (~nearest.won).nonzero().squeeze(1)
    x_adv, won = starts(oracle, index, ball.rows(index), rng.rows(index), tries=tries, name=name)
    offer_nearer(nearest, ball, index[won], x_adv[won])
    return nearest


def only_clean(oracle: Oracle, ball: Ball) -> Best:
    """Evaluate the clean inputs and keep the successes; one query per example."""
    nearest = Best(ball.x, dtype=torch.float64)
    index = torch.arange(len(ball.x), device=ball.x.device)
    won = oracle.win(index, ball.x)
    offer_nearer(nearest, ball, index[won], ball.x[won])
    return nearest


def starts(
    oracle: Oracle, index: Tensor, ball: Ball, rng: SampleRandom, *, tries: int, name: str, first: int = 0
) -> tuple[Tensor, Tensor]:
    """Find an input that succeeds at any distance: the clean one where the region allows no change.

    Without a label to reach: the negative of the clean input, then `tries` random inputs, then those of other labels
    that the attacker owns. With one, those of that label come first, since random inputs are seldom taken for it.

    Args:
        index: (b,) int64. ball, rng: of these examples. first: which of the inputs that are owned begins.

    Returns:
        (b, *S), and (b,) bool: whether it was seen to succeed. At most `tries` + OWNED + 1 queries per example.
    """
    found, won = ball.x, torch.zeros(len(index), dtype=torch.bool, device=index.device)
    todo = torch.arange(len(index), device=index.device)
    drawn, own = [(False, at) for at in range(tries + 1)], [(True, (first + at) % OWNED) for at in range(OWNED)]
    for is_own, at in [*own, *drawn] if oracle.targeted else [*drawn, *own]:
        todo = todo[oracle.can_ask(index[todo])]
        if len(todo) == 0:
            break
        rows = todo
        if is_own:
            begin, have = owned(oracle, index[todo], at)
            rows, begin = todo[have], begin.to(found.dtype)
            if len(rows) == 0:
                continue
        else:
            begin = _drawn(ball.x[todo], rng.rows(todo), at, name)
        x_adv = ball.rows(rows).project(begin)
        here_won = oracle.win(index[rows], x_adv)
        found = found.index_copy(0, rows[here_won], x_adv[here_won])
        won[rows[here_won]] = True
        todo = todo[~won[todo]]
    return found, won


def owned(oracle: Oracle, index: Tensor, at: int) -> tuple[Tensor, Tensor]:
    """Input number `at` that the attacker owns, for each of the examples `index` (b,); see `Target.reference`.

    It is one of the label to reach; without a target, labels other than the one to leave take turns.
    """
    y, others = oracle.y[index], oracle.target.classes - 1
    if oracle.targeted:
        return oracle.target.reference(y, at)
    return oracle.target.reference((y + 1 + at % others) % (others + 1), at // others)


def _drawn(x: Tensor, rng: SampleRandom, at: int, name: str) -> Tensor:
    """The negative of `x` at first, then by turns dots and uniform noise, (b, *S).

    The dots are black and white and of a random density: classifiers put them into different classes.
    """
    if at == 0:
        return 1.0 - x
    noise = rng.uniform(*x.shape[1:], stream=f"{name}/start", draw=at).to(x.dtype)
    if at % 2 == 0:
        return noise
    density = columns(rng.uniform(1, stream=f"{name}/density", draw=at).squeeze(1), noise)
    return (noise < density).to(x.dtype)


def blend(ball: Ball, x_adv: Tensor, share: Tensor) -> Tensor:
    """(b, *S): `x_adv` (b, *S) moved towards the clean inputs until `share` (b,) of the distance is left.

    On the segment under l2; under linf every change is cut at that length, which keeps the smaller ones.
    """
    delta = x_adv - ball.x
    if ball.norm is Norm.linf:
        limit = columns(share * rows_norm(delta, Norm.linf), delta)
        return ball.project(ball.x + delta.clamp(-limit, limit))
    return ball.project(ball.x + columns(share, delta) * delta)


def bisect(oracle: Oracle, index: Tensor, ball: Ball, x_adv: Tensor, *, steps: int) -> Tensor:
    """Adversarial inputs on the way from the clean ones to `x_adv` (b, *S), which is adversarial, of shape (b, *S).

    After `steps` queries the boundary is known to 2^-steps of the distance. ball: of the examples `index` (b,).
    """
    low, high = torch.zeros(2, len(index), dtype=x_adv.dtype, device=x_adv.device)
    high, near = high + 1.0, x_adv
    for _ in range(steps):
        middle = (low + high) / 2.0
        between = blend(ball, x_adv, middle)
        won = oracle.win(index, between)
        near = torch.where(columns(won, near), between, near)
        low, high = torch.where(won, low, middle), torch.where(won, middle, high)
    return near
