"""Boundary attack: a random walk along the decision boundary. Brendel et al., ICLR 2018, arXiv:1712.04248."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark import hookimpl
from benchmark.api import Attack, Supports
from benchmark.ball import Ball, rows_norm
from benchmark.sampling import SampleRandom
from benchmark.target import Target
from benchmark.threat import Access, Norm, Threat

from ._decisions import bisect, first_wins
from ._queries import Oracle, columns
from ._steps import at_least, positive

LEVEL_RATE, NEARER_RATE = 0.5, 0.25
"""Which share of the points at the same distance, and of those nearer by, is to succeed."""

MEMORY = 0.9
"""How much of the past the running rates of success keep at each new proposal."""


@dataclass(frozen=True)
class Boundary(Attack):
    """Takes a random step at the same distance, then one towards the clean input, and keeps what is adversarial.

    Differences from the paper: the walk begins on the boundary, found by bisection; the point at the same distance is
    asked about in every fifth iteration only, as in the authors' program; and the rates of success, by which the steps
    are adapted, are running means. The same targets as the paper's: about half of the points at the same distance and
    a quarter of those nearer by succeed.

    steps: iterations. side: initial length of the step at the same distance, as a share of the distance.
    ahead: initial length of the step towards the clean input, as a share of the distance.
    growth: by how much a step grows or shrinks at a time. tries: random inputs to start from.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.l2}), access=Access.labels, targeted=True, minimal=True, randomized=True
    )

    steps: int = 5000
    side: float = 0.1
    ahead: float = 0.02
    growth: float = 1.1
    tries: int = 100

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        at_least(0, tries=self.tries)
        positive(side=self.side, ahead=self.ahead, growth=self.growth)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Misclassified inputs at a small distance, the clean input where none was found.

        Cost per example: 1.2 forward passes per iteration, and the start.
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
    """(B, *S): see :class:`Boundary`; `ball` has no limit on the distance."""
    nearest = first_wins(oracle, ball, rng, tries=tries, name="boundary")
    index = nearest.found
    nearest.offer(index, bisect(oracle, index, ball.rows(index), nearest.x_adv[index], steps=10))
    walk = torch.tensor([side, ahead], device=ball.x.device).repeat(len(ball.x), 1)  # per example: both lengths
    rate = torch.tensor([LEVEL_RATE, NEARER_RATE], device=ball.x.device).repeat(len(ball.x), 1)
    for step in range(steps):
        index = index[oracle.can_ask(index)]
        if len(index) == 0:
            break
        here = ball.rows(index)
        noise = rng.rows(index).normal(*ball.x.shape[1:], stream="boundary/walk", draw=step)
        if here.mask is not None:
            noise = torch.where(here.mask, noise, 0.0)
        level = _level(nearest.x_adv[index] - here.x, noise, walk[index, 0])
        if step % 5 == 0:
            won = oracle.win(index, here.project(here.x + level))
            _adapt(walk, rate, index, 0, won, LEVEL_RATE, growth)
        nearer = here.project(here.x + columns(1.0 - walk[index, 1], level) * level)
        won = oracle.win(index, nearer)
        nearest.offer(index[won], nearer[won])
        _adapt(walk, rate, index, 1, won, NEARER_RATE, growth)
    return nearest.x_adv


def _level(delta: Tensor, noise: Tensor, side: Tensor) -> Tensor:
    """(b, *S): `delta` after a step along `noise` on the sphere around the clean input; `side` (b,) is its length."""
    far, zero = rows_norm(delta, Norm.l2), 1e-12
    unit = delta / columns(far.clamp_min(zero), delta)
    across = noise - columns((noise * unit).flatten(1).sum(1), delta) * unit
    across = across * columns(side * far / rows_norm(across, Norm.l2).clamp_min(zero), delta)
    moved = delta + across
    return moved * columns(far / rows_norm(moved, Norm.l2).clamp_min(zero), delta)


def _adapt(walk: Tensor, rate: Tensor, index: Tensor, kind: int, won: Tensor, wanted: float, growth: float) -> None:
    """Keep the running rate of success of one `kind` of step, and lengthen or shorten it towards the `wanted` rate."""
    rate[index, kind] = MEMORY * rate[index, kind] + (1.0 - MEMORY) * won
    longer = rate[index, kind] > wanted
    factor = torch.where(longer, growth, 1.0 / growth)
    walk[index, kind] = (walk[index, kind] * factor).clamp(1e-7, 0.5)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Boundary
