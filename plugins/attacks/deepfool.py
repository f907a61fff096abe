"""DeepFool: the smallest step over the linearised boundaries. Moosavi-Dezfooli et al., CVPR 2016, arXiv:1511.04599."""

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

from ._boundary import approach, step_to_planes
from ._losses import margin
from ._steps import at_least, can_ask

BEYOND = 1e-4
"""How far behind a linearised boundary a step aims, in the unit of the norm; the authors' program does the same."""


@dataclass(frozen=True)
class DeepFool(Attack):
    """Steps to the nearest linearised boundary until the label changes, then back to just behind the boundary.

    Differences from the paper: the distance to a boundary is that in the box [0, 1] and in the threat's region, which
    the paper does not know of; and the result is moved back towards the input as far as it stays misclassified
    (`search_steps`; 0 is the paper's algorithm, whose distances are 1 + overshoot times too large).

    steps: iterations. overshoot: by how much the sum of the steps is exceeded.
    candidates: how many classes are considered: the present one and those with the next highest clean scores.
    search_steps: forward passes for the way back.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l2, Norm.linf}), minimal=True)

    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 10
    search_steps: int = 8

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        at_least(2, candidates=self.candidates)
        at_least(0, search_steps=self.search_steps)
        if not self.overshoot >= 0:
            raise ConfigError(f"attack.overshoot is {self.overshoot}; expected a share of at least 0, such as 0.02")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Misclassified inputs at a small distance, whatever it is; where none was found, the last iterate.

        Cost per example: two forward and `candidates` - 1 backward passes per iteration, and the search.
        """
        return deepfool(
            target,
            y,
            ball=threat.unbounded().around(x, rng),
            steps=self.steps,
            overshoot=self.overshoot,
            candidates=self.candidates,
            search_steps=self.search_steps,
        )


def deepfool(
    target: Target, y: Tensor, *, ball: Ball, steps: int, overshoot: float, candidates: int, search_steps: int
) -> Tensor:
    """(B, *S): see :class:`DeepFool`; `ball` has no limit on the distance."""
    x, result = ball.x, ball.x
    count = min(candidates, target.classes) - 1
    at_x, at_adv = torch.full((2, len(y)), torch.nan, device=x.device, dtype=x.dtype)
    rivals = torch.zeros(len(y), count, dtype=torch.int64, device=x.device)
    total = torch.zeros_like(x)
    index = torch.arange(len(y), device=x.device)
    for step in range(steps):
        index = index[can_ask(target.rows(index))]
        if len(index) == 0:
            break
        view, labels = target.rows(index), y[index]
        logits, pull = view.pullback(result[index])
        if step == 0:
            at_x[index] = margin(logits, labels)
            rivals[index] = logits.scatter(1, labels[:, None], -torch.inf).topk(count, dim=1).indices
        needs, slopes = [], []
        for rank in range(count):
            rival = rivals[index, rank]
            cotangent = torch.zeros_like(logits).scatter_(1, rival[:, None], 1.0).scatter_(1, labels[:, None], -1.0)
            slopes.append(pull(cotangent).flatten(1))
            needs.append((logits * cotangent).sum(1).neg())
        here = ball.rows(index)
        total[index] += _nearest(torch.stack(slopes, 1), torch.stack(needs, 1), result[index], here)
        moved = here.project(here.x + (1.0 + overshoot) * total[index])
        # An input that is wrong already stays; one without a slope (or with NaN for one) cannot be moved.
        stays = ~(at_x[index] < 0) | (moved == result[index]).flatten(1).all(1)
        index, moved = index[~stays], moved[~stays]
        result = result.index_copy(0, index, moved)
        index = index[can_ask(target.rows(index))]
        if len(index) == 0:
            break
        logits = target.rows(index).logits(result[index])
        at_adv[index] = margin(logits, y[index])
        index = index[logits.argmax(1) == y[index]]
    found = (at_x < 0) & (at_adv > 0)
    if search_steps == 0 or not bool(found.any()):
        return result
    rows = found.nonzero().squeeze(1)
    nearer = approach(
        target.rows(rows),
        result[rows],
        y[rows],
        ball=ball.rows(rows),
        at_x=at_x[rows],
        at_adv=at_adv[rows],
        steps=search_steps,
    )
    return result.index_copy(0, rows, nearer)


def _nearest(slope: Tensor, need: Tensor, x: Tensor, ball: Ball) -> Tensor:
    """(B, *S): the step just behind the nearest of the boundaries slope (B, C, D) . delta = need (B, C)."""
    slope = slope.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    if ball.mask is not None:
        slope = slope * ball.mask.flatten(1)[:, None]
    dual = slope.abs().sum(2) if ball.norm is Norm.linf else slope.square().sum(2).sqrt()
    delta, size = step_to_planes(slope, need.clamp_min(0.0) + BEYOND * dual, x.flatten(1), ball.norm)
    chosen = size.argmin(1)[:, None, None].expand(-1, 1, delta.shape[2])
    return delta.gather(1, chosen).reshape(x.shape)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return DeepFool
