"""ALMA: an augmented Lagrangian method for adversarial attacks. Rony et al., ICCV 2021, arXiv:2011.11857."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, ConfigError, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.losses import dlr, dlr_targeted, dlr_towards
from ._base.steps import at_least, positive
from ._base.vectors import columns, nearer
from ._minimal.minimal import Asked, Nearest, Rows, descend, patient

CHECK, IMPROVED, GROWTH = 10, 0.95, 1.2
"""Every so many steps the penalty is sharpened by the last, unless the constraint fell below that share or was met."""
SMOOTH = 0.9
"""Of the moving averages of the multiplier and of the squared gradient."""
BOUNDS = (1e-6, 1e12)
"""Of the multiplier."""


@dataclass(frozen=True)
class ALMA(Attack):
    """Descends distance + penalty(constraint), the constraint being that the logits' ratio is not positive.

    The penalty is P2 (equation 12, of Birgin, Castillo & Martinez, 2005): its multiplier follows its derivative as a
    moving average, and its sharpness grows where the constraint does not improve.

    Differences from the paper: up to the first success an untargeted attack makes for the class whose linearised
    boundary is nearest (`candidates`; 1 leaves that out); under l1 the step on the distance is proximal, so that small
    changes end at zero; the nearest success is moved straight back towards the input as far as it stays one
    (`search_steps`); an example that has settled is left (`patience`; 1 is the paper's); where a gradient is zero the
    authors' program moves at random, and this not at all.

    steps: iterations. step_size: length of the first step, in l2; the steps fall exponentially.
    last_share: the last as a share of the first. multiplier, sharpness: of the penalty at the start.
    candidates: how many classes are considered at the start: the present one and those with the next highest scores.
    patience: an example is left whose nearest success has not come nearer by a hundredth in that share of the steps; 1
    leaves none.
    search_steps: forward passes for the way back.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l2, Norm.l1}), targeted=True, minimal=True)

    steps: int = 1000
    step_size: float = 0.3
    last_share: float = 0.01
    multiplier: float = 1.0
    sharpness: float = 1.0
    candidates: int = 10
    patience: float = 0.2
    search_steps: int = 8

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, candidates=self.candidates)
        patient(self.patience)
        at_least(0, search_steps=self.search_steps)
        positive(step_size=self.step_size, multiplier=self.multiplier, sharpness=self.sharpness)
        if not 0 < self.last_share <= 1:
            raise ConfigError(f"attack.last_share is {self.last_share}; expected above 0 and at most 1, such as 0.01")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The nearest success found, at whatever distance; the clean input where there is none.

        Cost per example: at most `steps` forward and backward passes, `candidates` - 2 more backward, and the search.
        """
        nearest = Nearest(threat.unbounded().around(x, rng), y, targeted=threat.targeted)
        alma(
            target,
            nearest,
            steps=self.steps,
            step_size=self.step_size,
            last_share=self.last_share,
            multiplier=self.multiplier,
            sharpness=self.sharpness,
            candidates=self.candidates,
            patience=self.patience,
        )
        return nearest.found(target, search_steps=self.search_steps)


def pull(value: Tensor, sharpness: Tensor) -> tuple[Tensor, Tensor]:
    """(b,) each, a and b: a * multiplier + b is the derivative of the penalty by the constraint's `value` (b,).

    It is the multiplier at 0.
    """
    sharp = sharpness * value
    above, below = sharp.clamp_min(0.0), sharp.clamp_max(0.0)
    return (1.0 + 2.0 * above) / (1.0 - below).square(), above.square() / 2.0


@dataclass
class _Lagrangian(Rows):
    """multiplier, sharpness: (b,), of the penalty. square: (b,), average of the squared gradient, 0 at the start.

    before: (b,), the constraint when it was last checked. met: (b,) bool, whether it was since.
    """

    multiplier: Tensor
    sharpness: Tensor
    square: Tensor
    before: Tensor
    met: Tensor


def alma(
    target: Target,
    nearest: Nearest,
    *,
    steps: int,
    step_size: float,
    last_share: float,
    multiplier: float,
    sharpness: float,
    candidates: int,
    patience: float,
) -> None:
    """See :class:`ALMA`; what is found goes to `nearest`."""

    def ratio(logits: Tensor, y: Tensor, rival: Tensor | None) -> Tensor:
        if nearest.targeted:
            return dlr_targeted(logits, y)
        any_other = dlr(logits, y)
        return any_other if rival is None else torch.where(rival == y, any_other, dlr_towards(logits, y, rival))

    def move(rows: _Lagrangian, asked: Asked, step: int) -> _Lagrangian:
        value = asked.value if asked.anyhow else ratio(asked.logits, asked.nearest.y, None)
        value = -value.nan_to_num(nan=0.0).to(rows.square.dtype)
        met = rows.met | asked.won
        sharper, before = rows.sharpness, rows.before if step else value
        if step and (step + 1) % CHECK == 0:
            sharper = torch.where(met | (value < IMPROVED * before), sharper, GROWTH * sharper)
            before, met = value, torch.zeros_like(met)
        weight, (times, plus) = rows.multiplier, pull(value, sharper)
        if step:
            weight = (SMOOTH * weight + (1.0 - SMOOTH) * (times * weight + plus)).clamp(*BOUNDS)
        delta = asked.delta
        away = delta.sign() if asked.ball.norm is Norm.l1 else 2.0 * delta
        push = columns(times * weight + plus, delta) * asked.gradient
        slope = away - push
        size = slope.flatten(1).square().sum(1)
        square = SMOOTH * rows.square + (1.0 - SMOOTH) * size if step else size
        length = step_size * last_share ** (step / max(steps - 1, 1)) / square.sqrt().clamp_min(1e-12)
        if asked.ball.norm is Norm.l1:
            delta = nearer(delta + columns(length, delta) * push, length, Norm.l1)
        else:
            delta = delta - columns(length, delta) * slope
        x_adv = asked.ball.project(asked.ball.x + delta)
        return _Lagrangian(rows.index, x_adv, weight, sharper, square, before, met)

    x, zero = nearest.ball.x, torch.zeros_like(nearest.size)
    rows = _Lagrangian(
        torch.arange(len(x), device=x.device),
        x,
        multiplier=zero + multiplier,
        sharpness=zero + sharpness,
        square=zero,
        before=zero,
        met=zero.bool(),
    )
    descend(
        target, rows, nearest, steps=steps, candidates=candidates, patience=patience, loss=lambda _: ratio, move=move
    )


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return ALMA
