"""SuperDeepFool: DeepFool, then straight onto the boundary it found. Abdollahpoor et al., 2023, arXiv:2303.12481."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark import hookimpl
from benchmark.api import Attack, Supports
from benchmark.ball import Ball
from benchmark.errors import ConfigError
from benchmark.sampling import SampleRandom
from benchmark.target import Target
from benchmark.threat import Norm, Threat

from ._boundary import step_to_planes
from ._losses import gap
from ._minimal import Nearest
from ._steps import at_least, can_ask
from .deepfool import deepfool


@dataclass(frozen=True)
class SuperDeepFool(Attack):
    """Runs DeepFool to the boundary, then steps from the clean input onto the boundary as linearised there, and so on
    until that step crosses it; algorithm 2 with m = infinity and n = 1.

    Differences from the paper: the steps are those in the box [0, 1] and in the threat's region; the search back is
    that of false position, not bisection; the nearest crossing is kept.

    rounds: how often DeepFool is run. steps, candidates, overshoot: of DeepFool. search_steps: forward passes for the
    way back.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l2}), minimal=True)

    rounds: int = 10
    steps: int = 50
    candidates: int = 10
    overshoot: float = 0.02
    search_steps: int = 8

    def __post_init__(self) -> None:
        at_least(1, rounds=self.rounds, steps=self.steps)
        at_least(2, candidates=self.candidates)
        at_least(0, search_steps=self.search_steps)
        if not self.overshoot >= 0:
            raise ConfigError(f"attack.overshoot is {self.overshoot}; expected a share of at least 0, such as 0.02")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The nearest success found, at whatever distance; the clean input where there is none.

        Cost per example: a forward pass; per round a run of DeepFool, two forward and one backward pass; the search.
        """
        nearest = Nearest(threat.unbounded().around(x, rng), y, targeted=False)
        superdeepfool(
            target,
            nearest,
            rounds=self.rounds,
            steps=self.steps,
            candidates=self.candidates,
            overshoot=self.overshoot,
        )
        return nearest.found(target, search_steps=self.search_steps)


def superdeepfool(
    target: Target, nearest: Nearest, *, rounds: int, steps: int, candidates: int, overshoot: float
) -> None:
    """See :class:`SuperDeepFool`; what is found goes to `nearest`."""
    ball, y = nearest.ball, nearest.y

    def ask(index: Tensor, x_adv: Tensor, *, clean: bool = False) -> Tensor:
        """(b,) int64: those of `index` (b,) that could be asked about and did not succeed."""
        able = can_ask(target.rows(index))
        index, x_adv = index[able], x_adv[able]
        if len(index) == 0:
            return index
        return index[~nearest.offer(index, x_adv, target.rows(index).logits(x_adv), clean=clean)]

    point = ball.x
    index = ask(torch.arange(len(y), device=y.device), point, clean=True)
    for _ in range(rounds):
        if len(index) == 0:
            return
        start = Ball(point[index], ball.norm, ball.eps, ball.rows(index).mask)
        crossed = deepfool(
            target.rows(index),
            y[index],
            ball=start,
            steps=steps,
            overshoot=overshoot,
            candidates=candidates,
            search_steps=0,
        )
        able = can_ask(target.rows(index))
        index, crossed = index[able], crossed[able]
        if len(index) == 0:
            return
        here = ball.rows(index)
        logits, pull = target.rows(index).pullback(crossed)
        won = nearest.offer(index, crossed, logits)
        rival = logits.argmax(1)
        cotangent = torch.zeros_like(logits).scatter_(1, rival[:, None], 1.0).scatter_(1, y[index][:, None], -1.0)
        slope = pull(cotangent).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        if here.mask is not None:
            slope = torch.where(here.mask, slope, 0.0)
        # The boundary as linearised at the crossing: slope . (x - crossed) + lead = 0, seen from the clean input.
        need = (slope * (crossed - here.x)).flatten(1).sum(1) - gap(logits, y[index], rival)
        delta, size = step_to_planes(
            slope.flatten(1)[:, None], need.clamp_min(0.0)[:, None], here.x.flatten(1), ball.norm
        )
        sure = won & torch.isfinite(size[:, 0]) & (size[:, 0] > 0)
        index, moved = index[sure], here.project(here.x + delta.reshape(slope.shape))[sure]
        point = point.index_copy(0, index, moved)
        index = ask(index, moved)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return SuperDeepFool
