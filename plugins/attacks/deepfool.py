"""DeepFool: the smallest step over the linearised boundaries. Moosavi-Dezfooli et al., CVPR 2016, arXiv:1511.04599."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, Ball, ConfigError, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.losses import likeliest, margin
from ._base.steps import at_least, can_ask
from ._base.vectors import TINY
from ._minimal.boundary import approach, step_to_planes, towards, usable

BEYOND = 1e-4
"""How far behind a linearised boundary a step aims, in the unit of the norm; the authors' program does the same."""
STRAIGHT = 3
"""How many steps are taken as if there was no box; those after them are the smallest in the box."""
FOLLOWED, PATIENCE = 2, 10
"""How many classes are considered after the first step, those whose boundaries were the nearest, and for how long."""


@dataclass(frozen=True)
class DeepFool(Attack):
    """Steps to the nearest linearised boundary until the label changes, then back to just behind the boundary.

    Differences from the paper: the first steps go half-way, since a curved boundary is not where the first slopes have
    it (`halved`; 0 is the paper's); the result is moved back towards the input as far as it stays misclassified
    (`search_steps`; 0 is the paper's, whose distances are 1 + overshoot times too large); which boundary is the nearest
    is decided in the box [0, 1] and in the threat's region, and after the first step between the two nearest; from the
    fourth on the steps are the smallest in the box, which cuts the others short.

    steps: iterations. overshoot: by how much the sum of the steps is exceeded. halved: how many steps go half-way.
    candidates: how many classes are considered: the present one and those with the next highest clean scores.
    search_steps: forward passes for the way back.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l2, Norm.linf}), minimal=True)

    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 10
    halved: int = 2
    search_steps: int = 8

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        at_least(2, candidates=self.candidates)
        at_least(0, halved=self.halved, search_steps=self.search_steps)
        if not self.overshoot >= 0:
            raise ConfigError(f"attack.overshoot is {self.overshoot}; expected a share of at least 0, such as 0.02")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Misclassified inputs at a small distance, whatever it is; where none was found, the last iterate.

        Cost per example: a forward pass per iteration, another where it is not halved, and the search; `candidates` - 1
        backward passes for the first iteration, two for the next nine, and `candidates` - 1 for those after.
        """
        return deepfool(
            target,
            y,
            ball=threat.unbounded().around(x, rng),
            steps=self.steps,
            overshoot=self.overshoot,
            candidates=self.candidates,
            halved=self.halved,
            search_steps=self.search_steps,
        )


def deepfool(
    target: Target,
    y: Tensor,
    *,
    ball: Ball,
    steps: int,
    overshoot: float,
    candidates: int,
    halved: int,
    search_steps: int,
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
        labels, here, now = y[index], ball.rows(index), result[index]
        logits, pull = target.rows(index).pullback(now)
        ahead, won = margin(logits, labels), logits.argmax(1) != labels
        if step == 0:
            at_x[index] = ahead
            rivals[index] = likeliest(logits, labels, count)
        at_adv[index] = ahead
        slopes, needs = [], []
        for rank in range(min(count, FOLLOWED) if 0 < step < PATIENCE else count):
            cotangent = towards(logits, labels, rivals[index, rank])
            slopes.append(usable(pull(cotangent), here).flatten(1))
            needs.append((logits * cotangent).sum(1).neg())
        slope = torch.stack(slopes, 1)
        delta, size = _steps(
            slope, torch.stack(needs, 1).clamp_min(0.0), now.flatten(1), ball.norm, boxed=step >= STRAIGHT
        )
        if step == 0:
            rivals[index] = rivals[index].gather(1, size.argsort(dim=1, stable=True))
        nearest = size.argmin(1)[:, None, None].expand(-1, 1, delta.shape[2])
        half = step < min(halved, steps - 1)
        total[index] += delta.gather(1, nearest).reshape(now.shape) * (0.5 if half else 1.0)
        moved = here.project(here.x + (1.0 + overshoot) * total[index])
        # An input that is wrong stays; one without a slope (or with NaN for one) cannot be moved.
        going = ~won & (ahead < 0) & slope.flatten(1).any(1)
        if step >= STRAIGHT:
            going &= (moved != now).flatten(1).any(1)
        index, moved = index[going], moved[going]
        result = result.index_copy(0, index, moved)
        if half:
            continue  # hardly any has crossed, and the next step asks anyway
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


def _steps(slope: Tensor, need: Tensor, x: Tensor, norm: Norm, *, boxed: bool) -> tuple[Tensor, Tensor]:
    """The steps just behind the boundaries slope (b, C, D) . delta = need (b, C), and their lengths.

    Returns:
        delta (b, C, D): the smallest in the box around `x` (b, D) if `boxed`, else the smallest of all; and (b, C), the
        length of the smallest in the box, infinite where there is none.
    """
    dual = slope.abs().sum(2) if norm is Norm.linf else slope.square().sum(2).sqrt()
    delta, size = step_to_planes(slope, need + BEYOND * dual, x, norm)
    if boxed:
        return delta, size
    direction = slope.sign() if norm is Norm.linf else slope / dual.clamp_min(TINY)[:, :, None]
    return direction * (need / dual.clamp_min(TINY) + BEYOND)[:, :, None], size


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return DeepFool
