"""Boundary attack: a random walk along the decision boundary. Brendel et al., ICLR 2018, arXiv:1712.04248."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Access, Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl, rows_norm

from ._base.settings import check_at_least, check_positive
from ._base.vectors import columns
from ._blackbox.decisions import bisect, first_wins, found, offer_nearer
from ._blackbox.queries import Oracle, gaussian

STEPS_AT_ONCE = 5
"""Number of steps tried from the same point in one pass."""

LEVEL_RATE, NEARER_RATE = 0.5, 0.3
"""Target success rates of orthogonal steps and of steps towards the input."""

LEVEL_MEMORY, NEARER_MEMORY = 0.7, 0.5
"""Decay of the running success rates."""


@dataclass(frozen=True)
class Boundary(Attack):
    """Takes a random orthogonal step at constant distance, then one towards the input; keeps adversarial points.

    Differences from the paper: the walk starts on the boundary, found by bisection; five steps are tried from the same
    point, the nearest success is taken, and the other successes are tried again from the new point; of the orthogonal
    steps only the first of the five is queried; the success rates that adapt the step lengths are running means. About
    half of the orthogonal steps should succeed, as in the paper, and slightly more of the steps towards the input than
    there.

    steps: number of tried steps. side: initial length of the orthogonal step, as a share of the distance.
    ahead: initial length of the step towards the clean input, as a share of the distance.
    growth: factor by which a step length is adapted. tries: random inputs to start from.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.l2}), access=Access.labels, targeted=True, minimal=True, randomized=True
    )

    steps: int = 5000
    side: float = 0.2
    ahead: float = 0.1
    growth: float = 1.3
    tries: int = 100

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps)
        check_at_least(0, tries=self.tries)
        check_positive(side=self.side, ahead=self.ahead, growth=self.growth)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Adversarial inputs at a small distance; the clean input where none was found.

        Cost per example: 1.2 forward passes per step, and the start.
        """
        return boundary(
            Oracle(target, y, threat.targeted),
            ball=threat.unbounded().around(x, rng),
            steps=self.steps,
            side=self.side,
            ahead=self.ahead,
            growth=self.growth,
            tries=self.tries,
            rng=rng,
        )


def boundary(
    oracle: Oracle, *, ball: Ball, steps: int, side: float, ahead: float, growth: float, tries: int, rng: SampleRandom
) -> Tensor:
    """Adversarial candidates (B, *S); see :class:`Boundary`; `ball` has no limit on the distance."""
    nearest = first_wins(oracle, ball, rng, tries=tries, name="boundary")
    index = found(nearest)
    offer_nearer(nearest, ball, index, bisect(oracle, index, ball.rows(index), nearest.x_adv[index], steps=10))
    walk = torch.tensor([side, ahead], device=ball.x.device).repeat(len(ball.x), 1)  # per example: both lengths
    rate = torch.tensor([LEVEL_RATE, NEARER_RATE], device=ball.x.device).repeat(len(ball.x), 1)
    last = torch.zeros(len(ball.x), STEPS_AT_ONCE, *ball.x.shape[1:], dtype=ball.x.dtype, device=ball.x.device)
    again = torch.zeros(len(ball.x), STEPS_AT_ONCE, dtype=torch.bool, device=ball.x.device)  # which of the last steps
    for first in range(0, steps, STEPS_AT_ONCE):
        index = oracle.todo(nearest, index)
        if len(index) == 0:
            break
        here, count = ball.rows(index), min(STEPS_AT_ONCE, steps - first)
        noise = gaussian(rng.rows(index), ball.x.shape[1:], count, stream="boundary/walk", first=first)
        if here.mask is not None:
            noise = torch.where(here.mask[:, None], noise, 0.0)
        noise = torch.where(columns(again[index, :count], noise), last[index, :count], noise)
        level = _level(nearest.x_adv[index] - here.x, noise, walk[index, 0])
        nearer = columns(1.0 - walk[index, 1], level) * level
        asked = (here.x[:, None] + torch.cat([nearer, level[:, :1]], 1)).clamp(0.0, 1.0)
        won, answered = oracle.wins(index, asked)
        taken = torch.where(won[:, :count], _lengths(asked[:, :count] - here.x[:, None]), torch.inf).argmin(1)
        some = won[:, :count].any(1).nonzero().squeeze(1)
        offer_nearer(nearest, ball, index[some], asked[some, taken[some]])
        others = torch.arange(count, device=index.device) != taken[:, None]
        last[index, :count], again[index, :count] = noise, won[:, :count] & others
        measured = torch.stack([won[:, count], won[:, :count].float().mean(1)], 1)
        whole = answered.all(1)
        _adapt(walk, rate, index[whole], measured[whole], growth)
    return nearest.x_adv


def _level(delta: Tensor, noise: Tensor, side: Tensor) -> Tensor:
    """`delta` (b, *S) after steps along `noise` (b, n, *S) on the sphere around the clean input, (b, n, *S).

    side: (b,) length of the step, as a share of the radius.
    """
    far, zero = rows_norm(delta, Norm.l2), 1e-12
    unit = (delta / columns(far.clamp_min(zero), delta))[:, None]
    across = noise - columns((noise * unit).flatten(2).sum(2), noise) * unit
    moved = delta[:, None] + columns((side * far)[:, None] / _lengths(across).clamp_min(zero), across) * across
    return columns(far[:, None] / _lengths(moved).clamp_min(zero), moved) * moved


def _lengths(delta: Tensor) -> Tensor:
    """l2 norms of `delta` (b, n, *S), (b, n)."""
    return delta.flatten(2).square().sum(2).sqrt()


def _adapt(walk: Tensor, rate: Tensor, index: Tensor, measured: Tensor, growth: float) -> None:
    """Adapt the lengths of both kinds of steps of the examples `index` (b,) towards their target success rates.

    measured: (b, 2) success rates of this pass, of orthogonal steps and of steps towards the input.
    """
    memory = torch.tensor([LEVEL_MEMORY, NEARER_MEMORY], device=walk.device)
    wanted = torch.tensor([LEVEL_RATE, NEARER_RATE], device=walk.device)
    rate[index] = memory * rate[index] + (1.0 - memory) * measured
    walk[index] = (walk[index] * torch.where(rate[index] > wanted, growth, 1.0 / growth)).clamp(1e-7, 0.5)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Boundary
