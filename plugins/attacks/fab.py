"""FAB: the smallest perturbation, by steps to the linearised boundary. Croce & Hein, ICML 2020, arXiv:1907.02044.

Its targeted form, FAB-T, is Croce & Hein, ICML 2020, arXiv:2003.01690, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from benchmark import hookimpl
from benchmark.api import Attack, Supports
from benchmark.ball import Ball, distance, rows_norm
from benchmark.errors import ConfigError
from benchmark.sampling import SampleRandom
from benchmark.target import Target
from benchmark.threat import Norm, Threat

from ._boundary import approach
from ._losses import gap, lead, likeliest, succeeded
from ._planes import nearest_plane, to_plane
from ._steps import at_least, can_ask, may_settle
from ._survivors import Best, Work
from ._vectors import columns

TOGETHER = 16
"""The boundaries of how many classes are compared at once."""


@dataclass(frozen=True)
class FAB(Attack):
    """Projects onto the nearest linearised boundary in the box, with a pull towards the clean input, and steps back.

    Differences from the paper: the nearest boundary is the one nearest in the box, not in all of space; the classes of
    the targeted form are approached side by side; the final search along the segment to the clean input is the false
    position method.

    steps: iterations. restarts: the first start is the clean input, the others are random, half as far as the best
        success so far, or half of eps if that is nearer.
    targets: 0 for the paper's form, which considers the boundaries to all other classes at each step; otherwise
        FAB-T: so many classes, those with the highest clean scores, are approached one by one. Under a targeted threat
        there is only the class of the threat.
    alpha_max: the largest weight of the clean input's projection. eta: overshoot of the projections.
    beta: how far a success is moved back, as a share of its distance. search_steps: forward passes of the final search.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf, Norm.l2, Norm.l1}), targeted=True, minimal=True, randomized=True
    )

    steps: int = 100
    restarts: int = 1
    targets: int = 0
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    search_steps: int = 8

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, restarts=self.restarts)
        at_least(0, targets=self.targets, search_steps=self.search_steps)
        for name, value in (("alpha_max", self.alpha_max), ("beta", self.beta)):
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"attack.{name} is {value}; expected a share between 0 and 1")
        if not self.eta >= 1.0:
            raise ConfigError(f"attack.eta is {self.eta}; expected at least 1, the projection itself")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The nearest success that was seen, whatever its distance; the clean input where there was none.

        Cost per example and restart: two forward passes and K - 1 backward passes per step (with `targets`, per class:
        two and one), one forward pass to rank the classes and `search_steps` + 2 for the search.
        """
        rivals = None
        if self.targets and not threat.targeted:
            if not bool(can_ask(target).all()):
                return x.clone()
            rivals = likeliest(target.logits(x), y, self.targets)
        return fab(
            target,
            y,
            ball=threat.around(x, rng),
            rivals=rivals,
            targeted=threat.targeted,
            bounded=False,
            steps=self.steps,
            restarts=self.restarts,
            alpha_max=self.alpha_max,
            eta=self.eta,
            beta=self.beta,
            search_steps=self.search_steps,
            settle=may_settle(target, threat),
            those=torch.ones_like(y, dtype=torch.bool),
            rng=rng,
        ).x_adv


def fab(
    target: Target,
    y: Tensor,
    *,
    ball: Ball,
    rivals: Tensor | None,
    targeted: bool,
    bounded: bool,
    steps: int,
    restarts: int,
    alpha_max: float,
    eta: float,
    beta: float,
    search_steps: int,
    settle: bool,
    those: Tensor,
    rng: SampleRandom,
) -> Best:
    """The nearest success per example; its value is minus the distance.

    Args:
        ball: the norm, the region, and how far random starts go. rivals: (B, C) the classes to approach, or None.
        bounded: only a success inside the ball counts, and with `settle` an example is left at the first one.
        those: (B,) bool, the examples to attack.
    """
    best = Best(ball.x)
    step = partial(_step, alpha_max=alpha_max, eta=eta, beta=beta, targeted=targeted, bounded=bounded)
    for restart in range(restarts):
        work = Work.of(target, ball, y, rivals, those & ~(best.won & (settle and bounded)))
        if len(work) == 0:
            break
        x_adv = _start(work, best, rng, restart)
        for _ in range(steps):
            work, x_adv = _only(work.affordable(), work, x_adv)
            if len(work) == 0:
                break
            slope, need = _nearest_plane(work, x_adv, targeted=targeted, each=rivals is not None)
            work, x_adv = step(work, x_adv, slope, need, best)
            if settle and bounded:
                work, x_adv = _only(~best.won[work.example], work, x_adv)
    if search_steps:
        _search(target, y, ball, best, targeted=targeted, bounded=bounded, settle=settle, steps=search_steps)
    return best


def _only(those: Tensor, work: Work, x_adv: Tensor) -> tuple[Work, Tensor]:
    """The rows where `those` (b,) bool is true."""
    return (work, x_adv) if bool(those.all()) else (work.keep(those), x_adv[those])


def _start(work: Work, best: Best, rng: SampleRandom, restart: int) -> Tensor:
    """(b, *S): the clean input, or a random point around it."""
    x, norm = work.ball.x, work.ball.norm
    if restart == 0:
        return x
    noise = rng.rows(work.example).uniform(*x.shape[1:], stream="fab/start", draw=restart, low=-1.0).to(x.dtype)
    radius = best.value[work.example].neg().clamp_max(work.ball.eps) / 2.0
    noise = noise * columns(radius / rows_norm(noise, norm).clamp_min(1e-12), noise)
    return _inside(x + noise, work.ball)


def _inside(x_adv: Tensor, ball: Ball) -> Tensor:
    """In the box and the region, at any distance."""
    return x_adv.clamp(0.0, 1.0) if ball.mask is None else torch.where(ball.mask, x_adv.clamp(0.0, 1.0), ball.x)


def _nearest_plane(work: Work, x_adv: Tensor, *, targeted: bool, each: bool) -> tuple[Tensor, Tensor]:
    """The linearised boundary slope (b, D) . delta = need (b,) around `x_adv`: of a row's own class, or the nearest.

    need is negative where the boundary has been crossed.
    """
    if each or targeted:
        slope, value, _ = work.gradient(
            x_adv, gap if each else lambda logits, y, _rival: lead(logits, y, targeted=targeted)
        )
        return _masked(slope, work.ball), value.neg()
    logits, pull = work.target.pullback(x_adv)
    rivals = (work.y[:, None] + torch.arange(1, logits.shape[1], device=logits.device)) % logits.shape[1]
    needs = logits.gather(1, work.y[:, None]) - logits.gather(1, rivals)
    away = torch.zeros_like(logits).scatter(1, work.y[:, None], -1.0)
    nearest = logits.new_full((len(work),), torch.inf)
    found, need = x_adv.new_zeros(x_adv.flatten(1).shape), torch.zeros_like(nearest)
    for first in range(0, rivals.shape[1], TOGETHER):
        turns = range(first, min(first + TOGETHER, rivals.shape[1]))
        slopes = torch.stack(
            [_masked(pull(away.scatter(1, rivals[:, turn : turn + 1], 1.0)), work.ball) for turn in turns], 1
        )
        missing = needs[:, first : first + TOGETHER]
        length, which = nearest_plane(slopes, missing, x_adv.flatten(1), work.ball.norm, nearest)
        at = (length < nearest).nonzero().squeeze(1)
        nearest[at], found[at], need[at] = length[at], slopes[at, which[at]], missing[at, which[at]]
    return found, need


def _masked(slope: Tensor, ball: Ball) -> Tensor:
    """(b, D): finite, and zero outside the region."""
    slope = slope.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return (slope if ball.mask is None else torch.where(ball.mask, slope, 0.0)).flatten(1)


def _step(
    work: Work,
    x_adv: Tensor,
    slope: Tensor,
    need: Tensor,
    best: Best,
    *,
    alpha_max: float,
    eta: float,
    beta: float,
    targeted: bool,
    bounded: bool,
) -> tuple[Work, Tensor]:
    """One iteration (algorithm 1 of the paper): the rows that go on, and where they are."""
    x, norm = work.ball.x.flatten(1), work.ball.norm
    here = x_adv.flatten(1)
    needs = torch.cat([need, need + (slope * (here - x)).sum(1)])
    from_here, from_x = to_plane(torch.cat([slope, slope]), needs, torch.cat([here, x]), norm).chunk(2)
    far, far_x = (rows_norm(delta, norm).clamp_min(1e-8) for delta in (from_here, from_x))
    alpha = (far / (far + far_x)).clamp_max(alpha_max)[:, None]
    mixed = (1.0 - alpha) * (here + eta * from_here) + alpha * (x + eta * from_x)
    moved = _inside(mixed.reshape(x_adv.shape), work.ball)
    alive = (moved != x_adv).flatten(1).any(1) & work.affordable()
    work, moved = _only(alive, work, moved)
    if len(work) == 0:
        return work, moved
    won = succeeded(work.logits(moved), work.y, targeted=targeted)
    _offer(work, moved, won, best, bounded=bounded)
    return work, torch.where(columns(won, moved), _inside(torch.lerp(work.ball.x, moved, beta), work.ball), moved)


def _offer(work: Work, x_adv: Tensor, won: Tensor, best: Best, *, bounded: bool) -> None:
    """Keep the successes that are nearer than those before."""
    at = won.nonzero().squeeze(1)
    far = distance(x_adv[at], work.ball.x[at], work.ball.norm)
    best.offer(work.example[at], x_adv[at], far <= (work.ball.eps if bounded else torch.inf), -far)


def _search(
    target: Target, y: Tensor, ball: Ball, best: Best, *, targeted: bool, bounded: bool, settle: bool, steps: int
) -> None:
    """Bring the successes nearer along the segments to the clean inputs."""
    work = Work.of(target, ball, y, None, best.value.isfinite() & ~(best.won & (settle and bounded)))
    for_both = work.target.remaining()
    if for_both is not None:
        work = work.keep(for_both >= 2)
    if len(work) == 0:
        return
    x_adv = best.x_adv[work.example]
    nearer = approach(
        work.target,
        x_adv,
        work.y,
        ball=Ball(work.ball.x, ball.norm, torch.inf, work.ball.mask),
        at_x=lead(work.logits(work.ball.x), work.y, targeted=targeted),
        at_adv=lead(work.logits(x_adv), work.y, targeted=targeted),
        steps=steps,
        targeted=targeted,
    )
    _offer(work, nearer, (nearer != x_adv).flatten(1).any(1), best, bounded=bounded)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return FAB
