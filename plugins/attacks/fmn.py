"""FMN: the fast minimum-norm attack. Pintor et al., NeurIPS 2021, arXiv:2102.12827, algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, ConfigError, Norm, SampleRandom, Supports, Target, Threat, hookimpl, rows_norm

from ._base.active import Active
from ._base.best import Best
from ._base.classes import logit_difference, margin_to_rival, next_rivals
from ._base.projections import within
from ._base.settings import check_at_least, check_positive, check_share
from ._base.vectors import TINY, annealed, columns, unit, usable
from ._minimal.nearest import Patience, finish, keep_nearest
from ._minimal.nearest_class import nearest_class

LARGEST = 0.3
"""l1: the largest change of a step, as a share of its length under other norms; on 64 features they are about equal."""


@dataclass(frozen=True)
class FMN(Attack):
    """Gradient steps in a ball that shrinks after every success and grows after every failure, in any of four norms.

    Differences from the paper: there is no ball until the first success, where the paper guesses one from the slope and
    may stall in it when many features are at the end of the box; after a success the ball may shrink to what the
    linearised margin needs, by half at most; up to the first success an untargeted attack aims at the class whose
    linearised boundary is nearest, not at the one with the highest score (`candidates`; 1 is the paper's); under l1 the
    length of a step is its largest change, since in l2 it would be spread over ever more features; under l0 the changes
    that are kept are those with the largest effect on the scores, slope times change, not the largest; the nearest
    success is moved back towards the input as far as it stays one (`search_steps`, not under l0); an example
    whose distance has stopped falling ends early (`patience`; 1 is the paper's).

    steps: iterations. step_size, last_step_size: of the first and the last step, in l2, along a cosine; under l1 the
    largest change is three tenths of that.
    gamma, last_gamma: share by which the ball shrinks and grows, first and last.
    candidates: number of classes considered at the start: the label and those with the next highest scores.
    patience: share of the steps after which an example ends whose nearest success came no nearer by 1 %; 1 ends none.
    search_steps: forward passes of the final line search.
    """

    supports: ClassVar[Supports] = Supports(targeted=True, top5=True, minimal=True)

    steps: int = 100
    step_size: float = 1.0
    last_step_size: float = 0.01
    gamma: float = 0.05
    last_gamma: float = 0.001
    candidates: int = 10
    patience: float = 0.3
    search_steps: int = 8

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, candidates=self.candidates)
        check_share(patience=self.patience)
        check_at_least(0, search_steps=self.search_steps)
        check_positive(step_size=self.step_size, last_step_size=self.last_step_size)
        if not 0 < self.last_gamma <= self.gamma < 1:
            raise ConfigError(
                f"attack.gamma is {self.gamma} and attack.last_gamma {self.last_gamma}; expected shares between 0 and "
                "1, the last one not above the first, such as 0.05 and 0.001"
            )

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Nearest success found, at any distance; the clean input where there is none.

        Cost per example: at most `steps` forward and backward passes, `candidates` - 2 more backward, and the search.
        """
        active = Active.unbounded(target, x, y, threat, rng)
        best = fmn(
            active,
            steps=self.steps,
            step_size=(self.step_size, self.last_step_size),
            gamma=(self.gamma, self.last_gamma),
            candidates=self.candidates,
            patience=self.patience,
        )
        return finish(active, best, search_steps=self.search_steps)


def fmn(
    active: Active,
    *,
    steps: int,
    step_size: tuple[float, float],
    gamma: tuple[float, float],
    candidates: int,
    patience: float,
) -> Best:
    """Nearest successes; see :class:`FMN`. radius: (b,), infinite before the first success."""
    best, x_adv, norm = Best(active.ball.x), active.ball.x, active.ball.norm
    patient = Patience(patience, steps, best)
    radius = torch.full_like(best.value, torch.inf)
    for step in range(steps):
        active, x_adv, radius = active.keep(active.affordable(), x_adv, radius)
        if len(active) == 0:
            break
        if step == 0 and candidates > 2 and not active.targeted:
            active, gradient, logits = nearest_class(active, candidates)
        else:
            gradient, _, logits = active.gradient(x_adv, margin_to_rival)
        gradient, ball = usable(gradient, active.ball), active.ball
        won = keep_nearest(best, active, x_adv, logits)
        if step == 0:
            clean = logits.new_zeros(len(best.value), logits.shape[1]).index_copy(0, active.index, logits)
        before = _margin_to_reached(clean[active.index], logits, active)
        needed = _needed(x_adv - ball.x, gradient, active.margin(logits), before, norm)
        radius = _radius(radius, won, -best.value[active.index], needed, annealed(*gamma, step, steps), norm)
        direction = unit(gradient)
        if norm is Norm.l1:
            direction = LARGEST * direction / columns(rows_norm(direction, Norm.linf).clamp_min(TINY), direction)
        delta = x_adv - ball.x + annealed(*step_size, step, steps) * direction
        if norm is Norm.l0:  # the changes with the largest effect, not the largest changes
            delta = ball.project(ball.x + delta) - ball.x
            delta = torch.where(largest(delta * gradient, radius), delta, 0.0)
        else:
            delta = within(delta, radius, norm)
        x_adv = ball.project(ball.x + delta)
        active, x_adv, radius = next_rivals(active, won, logits, gradient).keep(
            patient.going(step, active, best), x_adv, radius
        )
    return best


def largest(effects: Tensor, count: Tensor) -> Tensor:
    """True for the largest `effects` (b, *S) in absolute value, `count` (b,) per row, of equal ones the first."""
    size = effects.abs().flatten(1)
    count = count.clamp(0, size.shape[1]).long()
    least = size.sort(dim=1, descending=True).values.gather(1, (count - 1).clamp_min(0)[:, None])
    kept = (size >= least) & (size > 0) & (count > 0)[:, None]
    kept &= kept.cumsum(1) <= count[:, None]
    return kept.reshape(effects.shape)


def _radius(radius: Tensor, won: Tensor, nearest: Tensor, needed: Tensor, gamma: float, norm: Norm) -> Tensor:
    """Next radius (b,): smaller after a success, and never above the `nearest` (b,) one; larger after a failure."""
    shrunk, grown = torch.minimum(radius * (1.0 - gamma), nearest), radius * (1.0 + gamma)
    if norm is Norm.l0:  # whole features, and one at least
        shrunk, grown = torch.minimum(shrunk.floor(), nearest - 1.0), torch.maximum(grown.floor(), radius + 1.0)
    return torch.where(won, torch.minimum(shrunk, needed.maximum(nearest / 2.0)), grown)


def _margin_to_reached(clean: Tensor, logits: Tensor, active: Active) -> Tensor:
    """Margin (b,) that the clean input, of scores `clean` (b, K), has to the class that `logits` (b, K) predict.

    To the nearest class it may be far less: beside twin classes it is almost 0 and says nothing of the way.
    """
    return active.margin(clean) if active.targeted else logit_difference(clean, active.y, logits.argmax(1))


def _needed(delta: Tensor, gradient: Tensor, margin: Tensor, clean: Tensor, norm: Norm) -> Tensor:
    """Size (b,) of the part of a successful `delta` (b, *S) that the linearised margin needs; infinite if unknown.

    l0: changes of the largest effects, slope times change, that bring the margin from `clean` (b,) to 0. Other norms:
    the share of `delta` at which the secant from `clean` to `margin` (b,) is 0.
    """
    if norm is not Norm.l0:
        share = (clean / (clean - margin)).nan_to_num(nan=torch.inf).clamp_min(0.0)
        return share * rows_norm(delta, norm)
    gained = (delta * gradient).flatten(1).clamp_min(0.0).sort(dim=1, descending=True).values.cumsum(1)
    return 1.0 + (gained < (gained[:, -1:] - margin[:, None])).sum(1).to(delta.dtype)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return FMN
