"""Parsimonious attack: lazy greedy search over the corners of the ball. Moon et al., ICML 2019, arXiv:1905.06635."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Access, Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import may_settle
from ._base.best import Best
from ._base.settings import check_at_least
from ._blackbox.estimates import offer_all
from ._blackbox.queries import Oracle


@dataclass(frozen=True)
class Parsimonious(Attack):
    """Chooses x + eps or x - eps per block of pixels by lazy greedy insertion and deletion, then halves the blocks.

    Differences from the paper: all blocks are candidates at once instead of random groups of 64, and the margin
    replaces the cross-entropy.

    block: side of the first blocks, in pixels. rounds: insertions and deletions per block size.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf}), access=Access.scores, targeted=True)

    block: int = 4
    rounds: int = 1

    def __post_init__(self) -> None:
        check_at_least(1, block=self.block, rounds=self.rounds)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Two to four forward passes per block of each size; an example ends at its first success."""
        return parsimonious(
            Oracle(target, y, threat.targeted, may_settle(target, threat)),
            Best(x),
            ball=threat.around(x, rng),
            block=self.block,
            rounds=self.rounds,
        )


def parsimonious(oracle: Oracle, best: Best, *, ball: Ball, block: int, rounds: int) -> Tensor:
    """Adversarial candidates (B, *S); see :class:`Parsimonious`."""
    x = ball.x
    index = oracle.visit(best, torch.arange(len(x), device=x.device), x)
    search = _Search(oracle, best, ball)
    search.value[index] = search.ask(index, search.up[index][:, None])[:, 0]
    while block >= 1:
        blocks = blocks_of(x.shape[1:], block).to(x.device)
        for _ in range(rounds):
            for insert in (True, False):
                index = oracle.todo(best, index)
                search.sweep(index, blocks, insert=insert)
        block //= 2
    return best.x_adv


def blocks_of(shape: torch.Size, side: int) -> Tensor:
    """Blocks of `side` pixels a side, each in one channel, (M, D) bool; runs of features for tabular data."""
    grid = shape[1:] if len(shape) > 1 else shape
    number = torch.zeros(1, dtype=torch.int64)
    for length in grid:
        each = -(-length // side)
        number = (number[:, None] * each + torch.arange(length) // side).flatten()
    channels = torch.arange(shape[0] if len(shape) > 1 else 1)
    number = (channels[:, None] * (int(number.max()) + 1) + number).flatten()
    return torch.arange(int(number.max()) + 1)[:, None] == number


class _Search:
    """Sets of all examples. up: (B, D) bool, the features at x + eps. value: (B,), the margin there."""

    def __init__(self, oracle: Oracle, best: Best, ball: Ball) -> None:
        self._oracle, self._best, self._ball = oracle, best, ball
        self.up = torch.zeros(ball.x.flatten(1).shape, dtype=torch.bool, device=ball.x.device)
        self.value = torch.full((len(ball.x),), -torch.inf, dtype=ball.x.dtype, device=ball.x.device)

    def ask(self, index: Tensor, up: Tensor) -> Tensor:
        """Margins of n sets `up` (b, n, D) per example, (b, n); the best ones are offered."""
        b, n = up.shape[:2]
        repeated = self._ball.rows(index.repeat_interleave(n))
        step = torch.where(up.reshape(repeated.x.shape), self._ball.eps, -self._ball.eps)
        proposals = repeated.project(repeated.x + step).reshape(b, n, *self._ball.x.shape[1:])
        values, won, _ = self._oracle.values(index, proposals)
        offer_all(self._best, index, proposals, values, won)
        return values

    def sweep(self, index: Tensor, blocks: Tensor, *, insert: bool) -> None:
        """Insert (or delete) blocks, the most useful first, as long as that increases the margin (algorithm 1).

        The last measured gain of a block bounds its present one as the sets grow, so only the first of the list is
        measured again, and taken if it still is not below the second.
        """
        gains = torch.full((len(index), len(blocks)), -torch.inf, dtype=self.value.dtype, device=index.device)
        # A block is a candidate if most of it is not yet where it would go (blocks of an earlier size may be mixed).
        share = (self.up[index].float() @ blocks.T.float()) / blocks.sum(1)
        candidate = share < 0.5 if insert else share >= 0.5
        size = self._oracle.group(len(index), blocks.shape[1])
        for first in range(0, len(blocks), size):
            part = blocks[first : first + size]
            changed = self._changed(index, part, insert=insert)
            useful = candidate[:, first : first + size]
            rows = useful.any(1).nonzero().squeeze(1)
            fresh = self.ask(index[rows], changed[rows]) - self.value[index[rows], None]
            gains[rows, first : first + size] = torch.where(useful[rows], fresh, -torch.inf)
        where = torch.arange(len(index), device=index.device)
        while len(where := where[gains[where].amax(1) > 0]):
            where = where[torch.isin(index[where], self._oracle.todo(self._best, index[where]))]
            if len(where) == 0:
                break
            rows, top = index[where], gains[where].argmax(1)
            changed = torch.where(blocks[top], insert, self.up[rows])
            value = self.ask(rows, changed[:, None])[:, 0]
            fresh = value - self.value[rows]
            gains[where, top] = -torch.inf
            taken = (fresh > 0) & (fresh >= gains[where].amax(1))
            gains[where, top] = torch.where(taken, -torch.inf, fresh)
            self.up[rows[taken]], self.value[rows[taken]] = changed[taken], value[taken]

    def _changed(self, index: Tensor, blocks: Tensor, *, insert: bool) -> Tensor:
        return torch.where(blocks[None], insert, self.up[index][:, None])


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Parsimonious
