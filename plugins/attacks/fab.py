"""FAB: the smallest perturbation, by steps to the linearised boundary. Croce & Hein, ICML 2020, arXiv:1907.02044.

Its targeted form, FAB-T, is Croce & Hein, ICML 2020, arXiv:2003.01690, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import (
    Attack,
    Ball,
    ConfigError,
    Norm,
    SampleRandom,
    Supports,
    Target,
    Threat,
    distance,
    hookimpl,
    rows_norm,
)

from ._ascent.survivors import Best, Work
from ._base.losses import gap, lead, likeliest, succeeded
from ._base.steps import at_least, can_ask, may_settle
from ._base.vectors import columns
from ._minimal.boundary import approach
from ._minimal.planes import nearest_plane, to_plane

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
    step = partial(
        _step,
        alpha_max=alpha_max,
        eta=eta,
        beta=beta,
        targeted=targeted,
        each=rivals is not None,
        bounded=bounded,
    )
    for restart in range(restarts):
        work = Work.of(target, ball, y, rivals, those & ~(best.won & (settle and bounded)))
        if len(work) == 0:
            break
        x_adv = _start(work, best, rng, restart)
        for _ in range(steps):
            work, x_adv = _only(work.affordable(), work, x_adv)
            if len(work) == 0:
                break
            work, x_adv = step(work, x_adv, best)
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


def _to_boundary(work: Work, points: Tensor, x_adv: Tensor, *, targeted: bool, each: bool) -> Tensor:
    """(b, 2, D): how `x_adv` and the clean input, the `points` (b, 2, D), get to the boundary linearised at `x_adv`.

    That is the boundary to a row's own class, or the nearest.
    """
    norm = work.ball.norm
    if each or targeted:
        slope, value, _ = work.gradient(
            x_adv, gap if each else lambda logits, y, _rival: lead(logits, y, targeted=targeted)
        )
        return to_plane(_masked(slope[:, None], work.ball)[:, 0], value.neg(), points, norm)
    logits, pull = work.target.pullback(x_adv)
    away, own = torch.eye(logits.shape[1], dtype=logits.dtype, device=logits.device), work.y[:, None]
    others = (own + torch.arange(1, len(away), device=logits.device)) % len(away)
    slopes, needs = points[:, :0], logits[:, :0]
    for rivals in others.split(TOGETHER, 1):
        slopes = torch.cat([slopes, _masked(pull(away[rivals] - away[own]), work.ball)], 1)
        needs = torch.cat([needs, logits.gather(1, own) - logits.gather(1, rivals)], 1)
        which, change = nearest_plane(slopes, needs, points, norm)
        nearest = torch.arange(len(work), device=which.device)[:, None], which[:, None]
        slopes, needs = slopes[nearest], needs[nearest]  # to be compared with the next ones
    return change


def _masked(slopes: Tensor, ball: Ball) -> Tensor:
    """(b, n, D) from slopes (b, n, *S): finite, and zero outside the region."""
    slopes = slopes.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return (slopes if ball.mask is None else torch.where(ball.mask[:, None], slopes, 0.0)).flatten(2)


def _step(
    work: Work,
    x_adv: Tensor,
    best: Best,
    *,
    alpha_max: float,
    eta: float,
    beta: float,
    targeted: bool,
    each: bool,
    bounded: bool,
) -> tuple[Work, Tensor]:
    """One iteration (algorithm 1 of the paper): the rows that go on, and where they are."""
    points = torch.stack([x_adv.flatten(1), work.ball.x.flatten(1)], 1)
    change = _to_boundary(work, points, x_adv, targeted=targeted, each=each)
    far, far_x = rows_norm(change.flatten(0, 1), work.ball.norm).clamp_min(1e-8).reshape(-1, 2).unbind(1)
    alpha = (far / (far + far_x)).clamp_max(alpha_max)[:, None]
    beyond, beyond_x = points.add(change, alpha=eta).unbind(1)
    moved = _inside(torch.lerp(beyond, beyond_x, alpha).reshape(x_adv.shape), work.ball)
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
