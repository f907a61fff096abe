"""FAB: the smallest perturbation, by steps to the linearised boundary. Croce & Hein, ICML 2020, arXiv:1907.02044.

Its targeted form, FAB-T, is Croce & Hein, ICML 2020, arXiv:2003.01690, section 4.
"""

from __future__ import annotations

import dataclasses
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

from ._ascent.pairs import affordable, gradient, logits, offer, pairs
from ._base.active import Active, may_settle
from ._base.best import Best
from ._base.classes import logit_difference, top_rivals
from ._base.settings import check_at_least
from ._base.vectors import columns
from ._minimal.hyperplanes import nearest_hyperplane, to_hyperplane
from ._minimal.line_search import line_search

CLASSES_AT_ONCE = 16
"""Number of classes whose boundaries are compared at once."""


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
    beta: share of its distance to which a success is moved back. search_steps: forward passes of the final line
    search.
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
        check_at_least(1, steps=self.steps, restarts=self.restarts)
        check_at_least(0, targets=self.targets, search_steps=self.search_steps)
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
        active, rivals = Active.of(target, threat.around(x, rng), y, targeted=threat.targeted), None
        if self.targets and not threat.targeted:
            if len(active.keep(active.affordable())[0]) < len(x):
                return x.clone()
            rivals = top_rivals(target.logits(x), y, self.targets)
        return fab(
            active,
            Best(x),
            rivals=rivals,
            bounded=False,
            steps=self.steps,
            restarts=self.restarts,
            alpha_max=self.alpha_max,
            eta=self.eta,
            beta=self.beta,
            search_steps=self.search_steps,
            settle=may_settle(target, threat),
            rng=rng,
        ).x_adv


def fab(
    active: Active,
    best: Best,
    *,
    rivals: Tensor | None,
    bounded: bool,
    steps: int,
    restarts: int,
    alpha_max: float,
    eta: float,
    beta: float,
    search_steps: int,
    settle: bool,
    rng: SampleRandom,
) -> Best:
    """Nearest success per example: `best`, updated; its value is minus the distance.

    Args:
        active: the examples, with the norm, the region, and how far random starts go.
        rivals: (B, C) the classes to approach, or None.
        bounded: only a success inside the ball counts, and with `settle` an example ends at the first one.
    """
    ends = settle and bounded
    step = partial(_step, alpha_max=alpha_max, eta=eta, beta=beta, each=rivals is not None, bounded=bounded)
    for restart in range(restarts):
        rows = pairs(active.keep(~(best.won[active.index] & ends))[0], rivals)
        if len(rows) == 0:
            break
        x_adv = _start(rows, best, rng, restart)
        for _ in range(steps):
            rows, x_adv = rows.keep(affordable(rows), x_adv)
            if len(rows) == 0:
                break
            rows, x_adv = step(rows, x_adv, best)
            rows, x_adv = rows.keep(~(best.won[rows.index] & ends), x_adv)
    if search_steps:
        found = best.value[active.index].isfinite() & ~(best.won[active.index] & ends)
        _search(active.keep(found)[0], best, bounded=bounded, steps=search_steps)
    return best


def _start(active: Active, best: Best, rng: SampleRandom, restart: int) -> Tensor:
    """Clean input (b, *S), or a random point around it."""
    x, norm = active.ball.x, active.ball.norm
    if restart == 0:
        return x
    noise = rng.rows(active.index).uniform(*x.shape[1:], stream="fab/start", draw=restart, low=-1.0).to(x.dtype)
    radius = best.value[active.index].neg().clamp_max(active.ball.eps) / 2.0
    noise = noise * columns(radius / rows_norm(noise, norm).clamp_min(1e-12), noise)
    return _inside(x + noise, active.ball)


def _inside(x_adv: Tensor, ball: Ball) -> Tensor:
    """`x_adv` (b, *S) clipped to the box and the region, at any distance."""
    return x_adv.clamp(0.0, 1.0) if ball.mask is None else torch.where(ball.mask, x_adv.clamp(0.0, 1.0), ball.x)


def toward_rival(scores: Tensor, rows: Active) -> Tensor:
    """Logit difference of each row's rival to its label, (b,)."""
    return logit_difference(scores, rows.y, rows.rival)


def toward_label(scores: Tensor, rows: Active) -> Tensor:
    """Signed margin of the label to reach, (b,)."""
    return rows.margin(scores)


def _to_boundary(active: Active, points: Tensor, x_adv: Tensor, *, each: bool) -> Tensor:
    """Changes (b, 2, D) of the `points` (b, 2, D), `x_adv` and the clean input, to the boundary linearised at `x_adv`.

    The boundary is that to a row's own class with `each` or under a targeted threat, otherwise the nearest.
    """
    norm = active.ball.norm
    if each or active.targeted:
        slope, value, _ = gradient(active, x_adv, toward_rival if each else toward_label)
        return to_hyperplane(_masked(slope[:, None], active.ball)[:, 0], value.neg(), points, norm)
    scores, pull = active.target.pullback(x_adv)
    away, own = torch.eye(scores.shape[1], dtype=scores.dtype, device=scores.device), active.y[:, None]
    others = (own + torch.arange(1, len(away), device=scores.device)) % len(away)
    slopes, offsets = points[:, :0], scores[:, :0]
    for rivals in others.split(CLASSES_AT_ONCE, 1):
        slopes = torch.cat([slopes, _masked(pull(away[rivals] - away[own]), active.ball)], 1)
        offsets = torch.cat([offsets, scores.gather(1, own) - scores.gather(1, rivals)], 1)
        which, change = nearest_hyperplane(slopes, offsets, points, norm)
        nearest = torch.arange(len(active), device=which.device)[:, None], which[:, None]
        slopes, offsets = slopes[nearest], offsets[nearest]  # to be compared with the next ones
    return change


def _masked(slopes: Tensor, ball: Ball) -> Tensor:
    """Slopes (b, n, *S) as (b, n, D): finite, and zero outside the region."""
    slopes = slopes.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return (slopes if ball.mask is None else torch.where(ball.mask[:, None], slopes, 0.0)).flatten(2)


def _step(
    active: Active,
    x_adv: Tensor,
    best: Best,
    *,
    alpha_max: float,
    eta: float,
    beta: float,
    each: bool,
    bounded: bool,
) -> tuple[Active, Tensor]:
    """One iteration of algorithm 1: the rows that go on, and their points."""
    points = torch.stack([x_adv.flatten(1), active.ball.x.flatten(1)], 1)
    change = _to_boundary(active, points, x_adv, each=each)
    far, far_x = rows_norm(change.flatten(0, 1), active.ball.norm).clamp_min(1e-8).reshape(-1, 2).unbind(1)
    alpha = (far / (far + far_x)).clamp_max(alpha_max)[:, None]
    beyond, beyond_x = points.add(change, alpha=eta).unbind(1)
    moved = _inside(torch.lerp(beyond, beyond_x, alpha).reshape(x_adv.shape), active.ball)
    alive, able = (moved != x_adv).flatten(1).any(1), affordable(active)
    active, moved = active.keep(alive if able is None else alive & able, moved)
    if len(active) == 0:
        return active, moved
    won = active.succeeded(moved, logits(active, moved))
    _keep_nearest(best, active, moved, won, bounded=bounded)
    back = _inside(torch.lerp(active.ball.x, moved, beta), active.ball)
    return active, torch.where(columns(won, moved), back, moved)


def _keep_nearest(best: Best, active: Active, x_adv: Tensor, won: Tensor, *, bounded: bool) -> None:
    """Offer the successes `x_adv` (b, *S), the nearest first; with `bounded` those in the ball count as won."""
    active, x_adv = active.keep(won, x_adv)
    far = distance(x_adv, active.ball.x, active.ball.norm)
    offer(best, active.index, x_adv, far <= (active.ball.eps if bounded else torch.inf), -far)


def _search(active: Active, best: Best, *, bounded: bool, steps: int) -> None:
    """Move the successes closer to the clean inputs along straight segments."""
    left = active.target.remaining()
    (active,) = active.keep(None if left is None else left >= 2)
    if len(active) == 0:
        return
    x_adv = best.x_adv[active.index]
    nearer = line_search(
        dataclasses.replace(active, ball=dataclasses.replace(active.ball, eps=torch.inf)),
        x_adv,
        at_x=active.margin(logits(active, active.ball.x)),
        at_adv=active.margin(logits(active, x_adv)),
        steps=steps,
    )
    _keep_nearest(best, active, nearer, (nearer != x_adv).flatten(1).any(1), bounded=bounded)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return FAB
