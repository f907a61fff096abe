"""RayS: search over sign directions for the nearest boundary. Chen & Gu, KDD 2020, arXiv:2006.12792."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Access, Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.best import Best
from ._base.settings import check_at_least, check_positive
from ._base.vectors import columns
from ._blackbox.decisions import bisect, offer_nearer, only_clean, starts
from ._blackbox.queries import Oracle

BISECTIONS = 10
"""Number of bisections from a random adversarial input towards the clean one."""


@dataclass(frozen=True)
class RayS(Attack):
    """Flips blocks of signs of the direction, from all of them down to single ones, and keeps adversarial flips.

    A flip that is adversarial at the present radius is followed by bisection of the radius. Nothing is estimated, and
    nothing is random unless no tried corner of the box is adversarial: the search then starts along the signs of a
    random adversarial input. Other differences from the paper: radii are bisected to a relative tolerance, and the
    search restarts with the largest blocks after the smallest, until no flip succeeds any more.

    rounds: most sweeps over the blocks of all sizes. tolerance: relative tolerance of the bisection. tries: random
    inputs to
        start from if no corner is adversarial; 0 is the paper's.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf}), access=Access.labels, minimal=True, randomized=True
    )

    rounds: int = 10
    tolerance: float = 1e-3
    tries: int = 100

    def __post_init__(self) -> None:
        check_at_least(1, rounds=self.rounds)
        check_positive(tolerance=self.tolerance)
        check_at_least(0, tries=self.tries)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Adversarial inputs at a small distance; the clean input where none was found.

        Cost per example: one forward pass per flip, 2 d flips per round, and some 10 for each successful one.
        """
        ball = threat.unbounded().around(x, rng)
        return rays(
            Oracle(target, y), ball=ball, rounds=self.rounds, tolerance=self.tolerance, tries=self.tries, rng=rng
        )


@dataclass
class _Search:
    """State of the search of each example. Each takes one step per pass, independently of the others.

    sign: (B, D), -1 or 1, the best direction so far. radius: (B,), adversarial distance along it (1: perhaps none).
    level, block: (B,) int64, the block of signs to flip next; block -1 flips none. low: (B,), a non-adversarial radius,
    or NaN while a flip is tried. improved: (B,) bool, the radius decreased in this round. rounds: (B,) int64.
    """

    sign: Tensor
    radius: Tensor
    level: Tensor
    block: Tensor
    low: Tensor
    improved: Tensor
    rounds: Tensor

    @classmethod
    def of(cls, x: Tensor) -> _Search:
        """Initial state: all signs positive, all features at the end of the box."""
        count, device = len(x), x.device
        zero = torch.zeros(count, dtype=torch.int64, device=device)
        return cls(
            sign=torch.ones_like(x.flatten(1)),
            radius=torch.ones(count, dtype=x.dtype, device=device),
            level=zero,
            block=zero - 1,
            low=torch.full((count,), torch.nan, dtype=x.dtype, device=device),
            improved=zero > 0,
            rounds=zero.clone(),
        )

    def restart(self, index: Tensor, delta: Tensor) -> None:
        """Restart the examples `index` (b,) along the signs of `delta` (b, D), from its largest change."""
        self.sign[index] = torch.where(delta < 0, -1.0, 1.0).to(self.sign.dtype)
        self.radius[index] = delta.abs().amax(1)
        self.level[index], self.block[index], self.rounds[index] = 0, -1, 0

    def flipped(self, index: Tensor) -> Tensor:
        """Direction of the examples `index` with the present block flipped, (b, D)."""
        sign = self.sign[index]
        size = _block_size(sign.shape[1], self.level[index])
        place = torch.arange(sign.shape[1], device=sign.device)
        return torch.where(place // size[:, None] == self.block[index][:, None], -sign, sign)

    def advance(self, index: Tensor) -> None:
        """Advance the examples `index` to the next block, of the next size after the last block."""
        count = self.sign.shape[1]
        self.block[index] += 1
        ended = index[self.block[index] * _block_size(count, self.level[index]) >= count]
        self.block[ended] = 0
        self.level[ended] += 1
        over = ended[_block_size(count, self.level[ended] - 1) == 1]
        self.level[over] = 0
        self.rounds[over] += torch.where(self.improved[over], 1, 10**9)
        self.improved[over] = False


def _block_size(count: int, level: Tensor) -> Tensor:
    """Size of a block when `count` features are split into 2^level blocks, (b,) int64."""
    blocks = 2 ** level.clamp_max(math.ceil(math.log2(max(2, count))))
    return (count + blocks - 1) // blocks


def rays(oracle: Oracle, *, ball: Ball, rounds: int, tolerance: float, tries: int, rng: SampleRandom) -> Tensor:
    """Adversarial candidates (B, *S); see :class:`RayS`; `ball` has no limit on the distance."""
    nearest = only_clean(oracle, ball)
    state = _Search.of(ball.x)
    index = (~nearest.won).nonzero().squeeze(1)
    _search(oracle, nearest, state, index, ball=ball, rounds=rounds, tolerance=tolerance)
    rest = oracle.todo(nearest, (~nearest.won).nonzero().squeeze(1))
    if tries and len(rest):  # no corner of the box that was tried is adversarial: start from an input that is
        x_adv, won = starts(oracle, rest, ball.rows(rest), rng.rows(rest), tries=tries, name="rays")
        rest, x_adv = rest[won], x_adv[won]
        near = bisect(oracle, rest, ball.rows(rest), x_adv, steps=BISECTIONS)
        offer_nearer(nearest, ball, rest, near)
        state.restart(rest, (near - ball.x[rest]).flatten(1))
        _search(oracle, nearest, state, rest, ball=ball, rounds=rounds, tolerance=tolerance)
    return nearest.x_adv


def _search(
    oracle: Oracle, nearest: Best, state: _Search, index: Tensor, *, ball: Ball, rounds: int, tolerance: float
) -> None:
    """Search the directions of the examples `index` (b,), up to their last round."""
    while len(index := oracle.todo(nearest, index[state.rounds[index] < rounds])):
        here = ball.rows(index)
        low, high = state.low[index], state.radius[index]
        flips = torch.isnan(low)
        sign = torch.where(flips[:, None], state.flipped(index), state.sign[index])
        radius = torch.where(flips, high, (low + high) / 2.0)
        x_adv = here.project(here.x + columns(radius, here.x) * sign.reshape(here.x.shape))
        won = oracle.win(index, x_adv)
        offer_nearer(nearest, ball, index[won], x_adv[won])
        state.sign[index[won]], state.radius[index[won]] = sign[won], radius[won]
        state.improved[index] |= won & ~flips
        low = torch.where(flips, torch.where(won, 0.0, torch.nan), torch.where(won, low, radius))
        settled = ~torch.isnan(low) & (state.radius[index] - low <= tolerance * state.radius[index])
        state.low[index] = torch.where(settled, torch.nan, low)
        state.advance(index[settled | (flips & ~won)])


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return RayS
