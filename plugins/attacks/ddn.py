"""DDN: decoupled direction and norm. Rony et al., CVPR 2019, arXiv:1811.09600, algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, ConfigError, Norm, SampleRandom, Supports, Target, Threat, hookimpl, rows_norm

from ._base.active import Active, AttackLoss
from ._base.best import Best
from ._base.classes import margin_to_rival, next_rivals
from ._base.settings import check_at_least, check_positive, check_share
from ._base.vectors import annealed, columns, unit, usable
from ._minimal.nearest import Patience, finish, keep_nearest

_LAST_STEP = 0.01
"""Ratio of the last step size to the first."""


@dataclass(frozen=True)
class DDN(Attack):
    """Follows the gradient on a sphere around the input that shrinks after a success and grows after a failure.

    Differences from the paper: the cross-entropy is maximised in the first steps only, then the margin (`margin_share`;
    0 is the paper's), because at the boundary the gradient of the former mixes those of all classes and does not point
    to the nearest one; the nearest success is moved back towards the input by a line search (`search_steps`; 0 is the
    paper's); an example whose distance has stopped decreasing ends early (`patience`; 1 is the paper's). At a zero
    gradient the authors' code takes a random step, this one takes none.

    steps: iterations. step_size: length of the first step. init_radius: of the first sphere.
    gamma: relative change of the radius. loss: to maximise at first.
    margin_share: share of the steps, at the end, on the margin.
    patience: share of the steps without a 1 % improvement of the distance after which an example ends; 1 for never.
    search_steps: forward passes of the final line search.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l2}), targeted=True, top5=True, minimal=True)

    steps: int = 100
    step_size: float = 1.0
    init_radius: float = 1.0
    gamma: float = 0.05
    loss: AttackLoss = AttackLoss.ce
    margin_share: float = 0.75
    patience: float = 0.2
    search_steps: int = 8

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps)
        check_share(patience=self.patience)
        check_at_least(0, search_steps=self.search_steps)
        check_positive(step_size=self.step_size, init_radius=self.init_radius)
        if not 0 < self.gamma < 1:
            raise ConfigError(f"attack.gamma is {self.gamma}; expected a share between 0 and 1, such as 0.05")
        if not 0 <= self.margin_share <= 1:
            raise ConfigError(f"attack.margin_share is {self.margin_share}; expected 0 to 1")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Nearest success found, at any distance; the clean input where there is none.

        Cost per example: at most `steps` forward and backward passes, and the line search.
        """
        active = Active.unbounded(target, x, y, threat, rng)
        best = ddn(
            active,
            steps=self.steps,
            step_size=self.step_size,
            init_radius=self.init_radius,
            gamma=self.gamma,
            loss=self.loss,
            margin_share=self.margin_share,
            patience=self.patience,
        )
        return finish(active, best, search_steps=self.search_steps)


def ddn(
    active: Active,
    *,
    steps: int,
    step_size: float,
    init_radius: float,
    gamma: float,
    loss: AttackLoss,
    margin_share: float,
    patience: float,
) -> Best:
    """Nearest successes; see :class:`DDN`."""
    best, x_adv = Best(active.ball.x), active.ball.x
    patient = Patience(patience, steps, best)
    radius = torch.full_like(best.value, init_radius)
    for step in range(steps):
        active, x_adv, radius = active.keep(active.affordable(), x_adv, radius)
        if len(active) == 0:
            break
        ascended = loss if step < (1.0 - margin_share) * steps else margin_to_rival
        gradient, _, logits = active.gradient(x_adv, ascended)
        won = keep_nearest(best, active, x_adv, logits)
        gradient, ball = usable(gradient, active.ball), active.ball
        delta = x_adv - ball.x + annealed(step_size, _LAST_STEP * step_size, step, steps) * unit(gradient)
        radius = radius * torch.where(won, 1.0 - gamma, 1.0 + gamma)
        delta *= columns(radius / rows_norm(delta, Norm.l2).clamp_min(1e-12), delta)
        x_adv = ball.project(ball.x + delta)
        active = next_rivals(active, won, logits, gradient)
        active, x_adv, radius = active.keep(patient.going(step, active, best), x_adv, radius)
    return best


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return DDN
