"""ALMA: an augmented Lagrangian method for adversarial attacks. Rony et al., ICCV 2021, arXiv:2011.11857."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, ConfigError, Norm, SampleRandom, Supports, Target, Threat, hookimpl, rows_norm

from ._base.active import Active, State
from ._base.best import Best
from ._base.classes import margin_to_rival, next_rivals
from ._base.settings import check_at_least, check_positive, check_share
from ._base.vectors import TINY, columns, usable
from ._minimal.nearest import Patience, finish, keep_nearest
from ._minimal.nearest_class import nearest_class

CHECK, IMPROVED, SHARPER = 10, 0.95, 1.2
"""Steps between two checks; share to which the constraint must fall; growth of the sharpness if it did not."""
SMOOTH = 0.9
"""Decay of the moving averages of the multiplier and of the squared gradient."""
BOUNDS = (1e-6, 1e12)
"""Bounds of the multiplier."""
BEYOND = 1e-4
"""Margin that the constraint asks for, as a share of the clean input's: a descent that ends at 0 is no success."""


@dataclass(frozen=True)
class ALMA(Attack):
    """Descends distance + penalty(constraint), the constraint being that the margin of the true class is not positive.

    The penalty is P2 (equation 12, of Birgin, Castillo & Martinez, 2005): its multiplier follows its derivative as a
    moving average, and its sharpness grows where the constraint does not improve.

    Differences from the paper: the margin is measured in units of that of the clean input, which changes as little with
    the scale of the scores as the paper's logits' ratio, but has no denominator that bends it, or that vanishes where
    two classes have nearly equal scores; up to the first success an untargeted attack aims at the class whose
    linearised boundary is nearest (`candidates`; 1 leaves that out); under l1 the step on the distance is proximal, so
    that small changes end at zero, and the length of a step is its largest change, since in l2 it would be spread over
    ever more features; the nearest success is moved straight back towards the input as far as it stays one
    (`search_steps`); an example whose distance has stopped falling ends early (`patience`; 1 is the paper's); where a
    gradient is zero the authors' program moves at random, and this not at all.

    steps: iterations. step_size: length of the first step, 0.3 in l2 and under l1 0.1 in linf if None; the steps fall
    exponentially.
    last_share: the last as a share of the first. multiplier, sharpness: of the penalty at the start.
    candidates: number of classes considered at the start: the label and those with the next highest scores.
    patience: share of the steps after which an example ends whose nearest success came no nearer by 1 %; 1 ends none.
    search_steps: forward passes of the final line search.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l2, Norm.l1}), targeted=True, minimal=True)

    steps: int = 1000
    step_size: float | None = None
    last_share: float = 0.01
    multiplier: float = 1.0
    sharpness: float = 1.0
    candidates: int = 10
    patience: float = 0.2
    search_steps: int = 8

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, candidates=self.candidates)
        check_share(patience=self.patience)
        check_at_least(0, search_steps=self.search_steps)
        check_positive(step_size=self.step_size, multiplier=self.multiplier, sharpness=self.sharpness)
        if not 0 < self.last_share <= 1:
            raise ConfigError(f"attack.last_share is {self.last_share}; expected above 0 and at most 1, such as 0.01")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Nearest success found, at any distance; the clean input where there is none.

        Cost per example: at most `steps` forward and backward passes, `candidates` - 2 more backward, and the search.
        """
        active = Active.unbounded(target, x, y, threat, rng)
        best = alma(
            active,
            steps=self.steps,
            step_size=self.step_size or (0.1 if threat.norm is Norm.l1 else 0.3),
            last_share=self.last_share,
            multiplier=self.multiplier,
            sharpness=self.sharpness,
            candidates=self.candidates,
            patience=self.patience,
        )
        return finish(active, best, search_steps=self.search_steps)


def softer(delta: Tensor, amount: Tensor) -> Tensor:
    """Proximal map of `amount` (b, 1, ...) times the l1 norm: `delta` (b, *S) with each change that much smaller."""
    return delta - delta.clamp(-amount, amount)


def pull(value: Tensor, sharpness: Tensor) -> tuple[Tensor, Tensor]:
    """(b,) each, a and b: a * multiplier + b is the derivative of the penalty by the constraint's `value` (b,).

    It is the multiplier at 0.
    """
    sharp = sharpness * value
    above, below = sharp.clamp_min(0.0), sharp.clamp_max(0.0)
    return (1.0 + 2.0 * above) / (1.0 - below).square(), above.square() / 2.0


@dataclass
class _Penalty(State):
    """Penalty of each row, (b,) in each field.

    multiplier, sharpness: its parameters. before: the constraint when it was last checked. met: bool, whether it was
    since.
    """

    multiplier: Tensor
    sharpness: Tensor
    before: Tensor
    met: Tensor

    def slope(self, value: Tensor, won: Tensor, step: int) -> Tensor:
        """Derivative (b,) by the constraint's `value` (b,) after the step's update of sharpness and multiplier."""
        self.met = self.met | won
        if step and (step + 1) % CHECK == 0:
            sharper = ~(self.met | (value < IMPROVED * self.before))
            self.sharpness = torch.where(sharper, SHARPER * self.sharpness, self.sharpness)
            self.before, self.met = value, torch.zeros_like(self.met)
        elif step == 0:
            self.before = value
        times, plus = pull(value, self.sharpness)
        if step:
            follow = SMOOTH * self.multiplier + (1.0 - SMOOTH) * (times * self.multiplier + plus)
            self.multiplier = follow.clamp(*BOUNDS)
        return times * self.multiplier + plus


def alma(
    active: Active,
    *,
    steps: int,
    step_size: float,
    last_share: float,
    multiplier: float,
    sharpness: float,
    candidates: int,
    patience: float,
) -> Best:
    """Nearest successes; see :class:`ALMA`.

    unit: (b,), margin of the clean input. square: (b,), average of the squared length of the objective's gradient.
    """
    best, x_adv, l1 = Best(active.ball.x), active.ball.x, active.ball.norm is Norm.l1
    patient = Patience(patience, steps, best)
    unit = square = torch.zeros_like(best.value)
    penalty = _Penalty(square + multiplier, square + sharpness, square, square.bool())
    for step in range(steps):
        active, x_adv, unit, square, penalty = active.keep(active.affordable(), x_adv, unit, square, penalty)
        if len(active) == 0:
            break
        if step == 0 and candidates > 2 and not active.targeted:
            active, gradient, logits = nearest_class(active, candidates)
            value = margin_to_rival(logits, active)
        else:
            gradient, value, logits = active.gradient(x_adv, margin_to_rival)
        if step == 0:
            unit = value.abs().nan_to_num(nan=1.0, posinf=1.0).clamp_min(TINY)
        gradient, ball = usable(gradient, active.ball), active.ball
        won = keep_nearest(best, active, x_adv, logits)
        value = torch.where(won, active.margin(logits), value)
        delta = x_adv - ball.x
        weight = penalty.slope(BEYOND - (value / unit).nan_to_num(nan=0.0).to(square.dtype), won, step)
        push = columns(weight / unit, delta) * gradient
        slope = (delta.sign() if l1 else 2.0 * delta) - push
        size = rows_norm(slope, Norm.linf if l1 else Norm.l2).square()
        square = SMOOTH * square + (1.0 - SMOOTH) * size if step else size
        length = step_size * last_share ** (step / max(steps - 1, 1)) / square.sqrt().clamp_min(1e-12)
        pace = columns(length, delta)
        delta = softer(delta + pace * push, pace) if l1 else delta - pace * slope
        x_adv = ball.project(ball.x + delta)
        active, x_adv, unit, square, penalty = next_rivals(active, won, logits, gradient).keep(
            patient.going(step, active, best), x_adv, unit, square, penalty
        )
    return best


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return ALMA
