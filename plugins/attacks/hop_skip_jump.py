"""HopSkipJump: boundary steps along Monte Carlo gradients of the label. Chen et al., S&P 2020, arXiv:1904.02144."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Access, Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl, rows_norm

from ._base.settings import check_at_least
from ._base.vectors import columns
from ._blackbox.decisions import TreeSum, bisect, drawn_at_once, first_wins, found, offer_nearer
from ._blackbox.queries import Oracle, gaussian, uniform

HALVINGS = 15
"""Number of halvings of an unsuccessful step before it is given up."""

LEAST_PROBE = 1e-5
"""Smallest change of a feature by a probe, since single precision hides smaller ones."""


@dataclass(frozen=True)
class HopSkipJump(Attack):
    """Bisects to the boundary, estimates its normal from labels around it, steps along the normal, and repeats.

    Differences from the paper: the nearest adversarial input is returned instead of the last; a step is given up after
    15 halvings; probes have a smallest size, which matters for inputs of more than some 10,000 features.

    steps: iterations. probes: queries of the first estimate of the normal; iteration t uses probes * sqrt(t).
    max_probes: most queries of one estimate. tries: random inputs to start from.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.l2, Norm.linf}), access=Access.labels, targeted=True, minimal=True, randomized=True
    )

    steps: int = 64
    probes: int = 100
    max_probes: int = 10_000
    tries: int = 100

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, probes=self.probes, max_probes=self.max_probes)
        check_at_least(0, tries=self.tries)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Adversarial inputs at a small distance; the clean input where none was found.

        Cost per example: about probes * 2/3 * steps^1.5 forward passes, and 2 log2(d) to 3 log2(d) per iteration.
        """
        return hop_skip_jump(
            Oracle(target, y, threat.targeted),
            ball=threat.unbounded().around(x, rng),
            steps=self.steps,
            probes=self.probes,
            max_probes=self.max_probes,
            tries=self.tries,
            rng=rng,
        )


def hop_skip_jump(
    oracle: Oracle, *, ball: Ball, steps: int, probes: int, max_probes: int, tries: int, rng: SampleRandom
) -> Tensor:
    """Adversarial candidates (B, *S); see :class:`HopSkipJump`; `ball` has no limit on the distance."""
    nearest = first_wins(oracle, ball, rng, tries=tries, name="hop_skip_jump")
    size = ball.x[0].numel() if len(ball.x) else 1
    # Where bisection ends, as a share of the distance: 1 / (d sqrt(d)) under l2, 1 / d^2 under linf (section III.C).
    halvings = math.ceil((1.5 if ball.norm is Norm.l2 else 2.0) * math.log2(size)) + 1
    index, x_adv = found(nearest), nearest.x_adv
    for step in range(steps + 1):
        # Back to the boundary by bisection.
        near = bisect(oracle, index, ball.rows(index), x_adv[index], steps=halvings)
        offer_nearer(nearest, ball, index, near)
        x_adv = x_adv.index_copy(0, index, near)
        index = oracle.todo(nearest, found(nearest))
        if step == steps or len(index) == 0:
            break
        # The normal of the boundary there, from labels around it.
        here, start = ball.rows(index), x_adv[index]
        far = rows_norm(start - here.x, ball.norm)
        probe = (far / size).clamp_min(LEAST_PROBE * math.sqrt(size)) if step else torch.full_like(far, 0.1)
        count = min(int(probes * math.sqrt(step + 1)), max_probes)
        normal = _normal(oracle, index, here, start, probe=probe, count=count, step=step, rng=rng)
        direction = here.steepest(normal)
        # Along it as far as the point stays adversarial: the first length divided by 2, 4, 8 ...
        length, moved = far / math.sqrt(step + 1), start
        todo = torch.arange(len(index), device=index.device)
        for _ in range(HALVINGS):
            ahead = here.rows(todo).project(start[todo] + columns(length[todo], start[todo]) * direction[todo])
            won = oracle.win(index[todo], ahead)
            moved = moved.index_copy(0, todo[won], ahead[won])
            length = length.index_copy(0, todo, length[todo] / 2.0)
            todo = todo[~won]
            if len(todo) == 0:
                break
        x_adv = x_adv.index_copy(0, index, moved)
    return nearest.x_adv


def _normal(
    oracle: Oracle, index: Tensor, ball: Ball, x_adv: Tensor, *, probe: Tensor, count: int, step: int, rng: SampleRandom
) -> Tensor:
    """Normal of the boundary at `x_adv`, towards the adversarial side (equation 16, with its baseline), (b, *S).

    probe: (b,) l2 length of a probe. Every iteration `step` has its own draws.
    """
    shape, mine = x_adv.shape[1:], rng.rows(index)
    total, plain = TreeSum(), TreeSum()
    wins, asked = torch.zeros(2, len(index), dtype=x_adv.dtype, device=x_adv.device)
    draw = gaussian if ball.norm is Norm.l2 else uniform
    size = drawn_at_once(oracle, len(index), x_adv[0].numel())
    for first in range(0, count, size):
        group = min(size, count - first)
        noise = draw(mine, shape, group, stream=f"hop_skip_jump/probe/{step}", first=first)
        if ball.mask is not None:
            noise = torch.where(ball.mask[:, None], noise, 0.0)
        length = noise.flatten(2).square().sum(2).sqrt().clamp_min(1e-12)
        ahead = x_adv[:, None] + columns(probe[:, None] / length, noise) * noise
        ahead = ahead.clamp(0.0, 1.0)
        won, answered = oracle.wins(index, ahead)
        made = (ahead - x_adv[:, None]) / columns(probe[:, None].expand(-1, group), ahead)
        total.add(columns(torch.where(answered, 2.0 * won - 1.0, 0.0), made) * made)
        plain.add(columns(answered.to(made.dtype), made) * made)
        wins, asked = wins + won.sum(1), asked + answered.sum(1)
        if not bool(answered.any()):
            break
    asked = asked.clamp_min(1.0)
    mean = 2.0 * wins / asked - 1.0
    # All alike: towards them, or away; else each label less the mean label.
    sided = total.total()
    mixed = sided - columns(mean, sided) * plain.total()
    return torch.where(columns(mean.abs() >= 1.0, sided), sided, mixed)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return HopSkipJump
