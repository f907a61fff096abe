"""Sign-OPT: descent on the boundary distance along a direction, by signs. Cheng et al., ICLR 2020, arXiv:1909.10773."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Access, Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl, rows_norm

from ._base.best import Best
from ._base.settings import check_at_least, check_positive
from ._base.vectors import columns
from ._blackbox.decisions import TreeSum, bisect, drawn_at_once, first_wins, found, offer_nearer, owned
from ._blackbox.queries import Oracle, gaussian

TURNS = 12
"""Attempts of the line search: doublings of a successful step, quarterings of an unsuccessful one."""


@dataclass(frozen=True)
class SignOPT(Attack):
    """Descends the boundary distance as a function of the direction; one query compares two directions.

    Differences from the paper: a direction is that of an input in the box; the distance after a step of the line search
    is bisected only if one query shows that it is smaller than the best so far.

    steps: iterations. probes: queries per gradient. starts: initial directions to try, random ones, or for a target
    label
        those to the attacker's own inputs of it, which are fewer.
    smoothing: length of the change of direction for the gradient estimate, where directions have length 1.
    step_size: initial length of a step. search_steps: bisections per distance. tries: random inputs to start from.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.l2}), access=Access.labels, targeted=True, minimal=True, randomized=True
    )

    steps: int = 1000
    probes: int = 200
    starts: int = 100
    smoothing: float = 1e-2
    step_size: float = 0.2
    search_steps: int = 12
    tries: int = 100

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, probes=self.probes, search_steps=self.search_steps)
        check_at_least(0, starts=self.starts, tries=self.tries)
        check_positive(smoothing=self.smoothing, step_size=self.step_size)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Adversarial inputs at a small distance; the clean input where none was found.

        Cost per example: `probes` forward passes per iteration, and some 30 for its line search. An example ends if
        even the shortest step does not lead nearer.
        """
        return sign_opt(
            Oracle(target, y, threat.targeted),
            ball=threat.unbounded().around(x, rng),
            steps=self.steps,
            probes=self.probes,
            starts=self.starts,
            smoothing=self.smoothing,
            step_size=self.step_size,
            search_steps=self.search_steps,
            tries=self.tries,
            rng=rng,
        )


def sign_opt(
    oracle: Oracle,
    *,
    ball: Ball,
    steps: int,
    probes: int,
    starts: int,
    smoothing: float,
    step_size: float,
    search_steps: int,
    tries: int,
    rng: SampleRandom,
) -> Tensor:
    """Adversarial candidates (B, *S); see :class:`SignOPT`; `ball` has no limit on the distance."""
    nearest = first_wins(oracle, ball, rng, tries=tries, name="sign_opt")
    index = found(nearest)
    offer_nearer(
        nearest, ball, index, bisect(oracle, index, ball.rows(index), nearest.x_adv[index], steps=search_steps)
    )
    for trial in range(starts):
        index = oracle.todo(nearest, index)
        rows, direction = _direction(oracle, index, ball, rng, trial)
        if len(rows) == 0:
            break
        _turned(oracle, nearest, rows, ball, ball.rows(rows).steepest(direction), search_steps)
    for step in range(steps):
        index = oracle.todo(nearest, index)
        if len(index) == 0:
            break
        here, start = ball.rows(index), nearest.x_adv[index]
        uphill = _gradient(oracle, index, here, start, probes=probes, smoothing=smoothing, step=step, rng=rng)
        unit = here.steepest(start - here.x)
        length = torch.full((len(index),), step_size, dtype=start.dtype, device=start.device)
        todo = torch.arange(len(index), device=index.device)
        growing = torch.ones_like(todo, dtype=torch.bool)
        for attempt in range(TURNS):
            turned = unit[todo] - columns(length[todo], start[todo]) * uphill[todo]
            better = _turned(oracle, nearest, index[todo], ball, here.rows(todo).steepest(turned), search_steps)
            if attempt == 0:
                growing = better  # a first turn that succeeds is lengthened until one fails, else shortened
            keep = better == growing[todo]
            length = length.index_copy(0, todo, length[todo] * torch.where(growing[todo], 2.0, 0.25))
            todo = todo[keep]
            if len(todo) == 0:
                break
    return nearest.x_adv


def _direction(oracle: Oracle, index: Tensor, ball: Ball, rng: SampleRandom, trial: int) -> tuple[Tensor, Tensor]:
    """Rows of `index` that have another initial direction, (b,), and the directions (b, *S)."""
    if not oracle.targeted:
        return index, rng.rows(index).normal(*ball.x.shape[1:], stream="sign_opt/direction", draw=trial)
    begin, have = owned(oracle, index, trial)
    rows = index[have]
    return rows, begin.to(ball.x.dtype).reshape(-1, *ball.x.shape[1:]) - ball.x[rows]


def _turned(oracle: Oracle, nearest: Best, index: Tensor, ball: Ball, unit: Tensor, search_steps: int) -> Tensor:
    """True where the boundary in the direction `unit` (b, *S) is nearer than the nearest so far, (b,) bool; one query.

    If so, the distance is found by bisection.
    """
    here = ball.rows(index)
    radius = -nearest.value[index].to(unit.dtype)
    x_adv = here.project(here.x + columns(radius, unit) * unit)
    won = oracle.win(index, x_adv)
    rows = won.nonzero().squeeze(1)
    near = bisect(oracle, index[rows], here.rows(rows), x_adv[rows], steps=search_steps)
    nearer = offer_nearer(nearest, ball, index[rows], near)
    return won.index_copy(0, rows, nearer)


def _gradient(
    oracle: Oracle,
    index: Tensor,
    ball: Ball,
    x_adv: Tensor,
    *,
    probes: int,
    smoothing: float,
    step: int,
    rng: SampleRandom,
) -> Tensor:
    """Mean of random changes of direction, signed by the change of distance (equation 5), unit length, (b, *S)."""
    total, delta = TreeSum(), x_adv - ball.x
    radius = rows_norm(delta, Norm.l2)
    unit = delta / columns(radius.clamp_min(1e-12), delta)
    size = drawn_at_once(oracle, len(index), x_adv[0].numel())
    for first in range(0, probes, size):
        group = min(size, probes - first)
        turn = gaussian(rng.rows(index), x_adv.shape[1:], group, stream=f"sign_opt/turn/{step}", first=first)
        if ball.mask is not None:
            turn = torch.where(ball.mask[:, None], turn, 0.0)
        turn = turn / columns(turn.flatten(2).square().sum(2).sqrt().clamp_min(1e-12), turn)
        turned = unit[:, None] + smoothing * turn
        turned = turned / columns(turned.flatten(2).square().sum(2).sqrt().clamp_min(1e-12), turned)
        ahead = ball.x[:, None] + columns(radius[:, None].expand(-1, group), turned) * turned
        won, answered = oracle.wins(index, ahead.clamp(0.0, 1.0))
        total.add(columns(torch.where(answered, 1.0 - 2.0 * won, 0.0), turn) * turn)
        if not bool(answered.any()):
            break
    return ball.steepest(total.total())


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return SignOPT
