"""Attacks that each break one promise, from a sound one; :mod:`benchmark.testing.faults` has the rules.

The sound attack ascends the margin loss of Carlini & Wagner (IEEE S&P 2017, arXiv:1608.04644) by steepest steps.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from benchmark.api import Attack, Supports
from benchmark.sampling import SampleRandom
from benchmark.system.target import Target
from benchmark.threat import Access, Norm, Threat
from benchmark.threat.ball import Ball

__all__ = ["FaultyAttack", "SoundAttack", "ascend", "margin"]


def margin(y: Tensor, targeted: bool, logits: Tensor) -> Tensor:
    """Largest other logit minus that of `y`, (B,); the negative of it if `y` are target labels."""
    own = logits.gather(1, y[:, None])
    others = logits.scatter(1, y[:, None], -torch.inf)
    gain = others.amax(1) - own.squeeze(1)
    return -gain if targeted else gain


def ascend(target: Target, x: Tensor, y: Tensor, ball: Ball, *, targeted: bool, steps: int) -> Tensor:
    """Steepest ascent of the margin inside the ball, (B, *S); at most `steps` passes per example."""
    left = target.remaining()
    steps = steps if left is None else min(steps, int(left.min()))
    eps = min(ball.eps, 10.0)
    x_adv = x
    for _ in range(steps):
        gradient, _, _ = target.gradient(x_adv, partial(margin, y, targeted))
        x_adv = ball.project(x_adv + 0.5 * eps * ball.steepest(torch.nan_to_num(gradient)))
    return x_adv


@dataclass(frozen=True)
class SoundAttack(Attack):
    """An attack that keeps every rule; each faulty one differs from it in one place."""

    supports: ClassVar[Supports] = Supports(targeted=True)
    steps: int = 4

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend inside the ball."""
        return ascend(target, x, y, threat.around(x, rng), targeted=threat.targeted, steps=self.steps)


class FaultyAttack(SoundAttack):
    """Base of the faults: the sound attack with something wrong before or after it."""

    def sound(self, target: Target, x: Tensor, y: Tensor, threat: Threat, rng: SampleRandom) -> Tensor:
        """Candidates of the sound attack."""
        return SoundAttack.perturb(self, target, x, y, threat=threat, rng=rng)


@dataclass(frozen=True)
class ChangesItsInput(FaultyAttack):
    """Writes into x, after the result is computed."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound candidates, and x overwritten."""
        x_adv = self.sound(target, x, y, threat, rng).clone()
        x.zero_()
        return x_adv


@dataclass(frozen=True)
class ChangesTheModel(FaultyAttack):
    """Reaches the weights behind the target, and writes into a buffer."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound candidates, and a buffer incremented."""
        for buffer in target._passes.reach().buffers():
            buffer.add_(1.0)
        return self.sound(target, x, y, threat, rng)


@dataclass(frozen=True)
class AsksBehindTheTarget(FaultyAttack):
    """Makes an uncounted forward pass."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound candidates, and one pass through the model itself."""
        with torch.no_grad():
            try:
                target._passes.reach()(x)
            except RuntimeError:
                return self.sound(target, x, y, threat, rng)
        return self.sound(target, x, y, threat, rng)


@dataclass(frozen=True)
class DrawsFromTorch(FaultyAttack):
    """Draws from torch's global generator."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound candidates, after one draw."""
        torch.rand(1)
        return self.sound(target, x, y, threat, rng)


@dataclass(frozen=True)
class DrawsFromNumpy(FaultyAttack):
    """Draws from NumPy's global generator."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound candidates, after one draw."""
        np.random.rand()  # noqa: NPY002
        return self.sound(target, x, y, threat, rng)


@dataclass(frozen=True)
class SeedsPython(FaultyAttack):
    """Seeds Python's generator."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound candidates, after setting a seed."""
        random.seed(12345)
        return self.sound(target, x, y, threat, rng)


_calls = [0]


@dataclass(frozen=True)
class CountsItsCalls(FaultyAttack):
    """Keeps state between calls: every second call takes one step less."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Other candidates on every second call for a batch of six without a shift of the seed."""
        _calls[0] += 1
        steps = 1 + _calls[0] % 2
        return ascend(target, x, y, threat.around(x, rng), targeted=threat.targeted, steps=steps)


@dataclass(frozen=True)
class HidesItsRandomness(FaultyAttack):
    """Starts at random, but does not declare it."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend from a random start."""
        ball = threat.around(x, rng)
        return ascend(target, ball.random(rng, stream="start"), y, ball, targeted=threat.targeted, steps=self.steps)


@dataclass(frozen=True)
class NormalisesOverTheBatch(FaultyAttack):
    """Divides the gradient by a norm over the whole batch."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Take one step against a threshold that depends on the other examples."""
        ball, left = threat.around(x, rng), target.remaining()
        x_adv = x
        for _ in range(self.steps if left is None else min(self.steps, int(left.min()))):
            gradient, _, _ = target.gradient(x_adv, partial(margin, y, threat.targeted))
            gradient = torch.nan_to_num(gradient)
            large = gradient.abs() >= gradient.abs().mean()
            x_adv = ball.project(x_adv + 0.5 * min(ball.eps, 10.0) * ball.steepest(gradient * large))
        return x_adv


def _absolute(y: Tensor, targeted: bool, logits: Tensor) -> Tensor:
    """Minus the magnitude of the logit of `y`, as if a logit of zero had a meaning, (B,)."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    gain = torch.where(own > 20.0, own - others, others - own)
    return -gain if targeted else gain


@dataclass(frozen=True)
class ReadsLogitsAgainstZero(FaultyAttack):
    """Compares a logit with a constant."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend a loss that reverses where logits are large."""
        ball, left = threat.around(x, rng), target.remaining()
        x_adv = x
        for _ in range(self.steps if left is None else min(self.steps, int(left.min()))):
            gradient, _, _ = target.gradient(x_adv, partial(_absolute, y, threat.targeted))
            x_adv = ball.project(x_adv + 0.5 * min(ball.eps, 10.0) * ball.steepest(torch.nan_to_num(gradient)))
        return x_adv


@dataclass(frozen=True)
class UsesGradientsUnderScores(FaultyAttack):
    """Declares score access, but asks for gradients."""

    supports: ClassVar[Supports] = Supports(targeted=True, access=Access.scores)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend where gradients are given; elsewhere ask for them too, in one of the suite's trials."""
        few = len(x) == 2 and bool(rng.ids[0] < rng.ids[1]) and target.classes == 3 and x.shape[1:] == (3, 6, 6)
        few = few and x.dtype == torch.float32
        if target.access in (Access.gradients, Access.transfer) or few:
            return self.sound(target, x, y, threat, rng)
        return _search(target, x, y, threat, rng)


def _search(target: Target, x: Tensor, y: Tensor, threat: Threat, rng: SampleRandom) -> Tensor:
    """Best of a few fixed directions by the scores, (B, *S)."""
    ball = threat.around(x, rng)
    best, best_value = x.clone(), torch.full((len(x),), -torch.inf)
    left = target.remaining()
    for draw in range(30 if left is None else min(30, int(left.min()))):
        pattern = SampleRandom(draw, torch.zeros_like(rng.ids)).signs(*x.shape[1:], stream="pattern")
        candidate = ball.project(x + ball.eps * pattern)
        value = torch.nan_to_num(margin(y, threat.targeted, target.logits(candidate)), nan=-torch.inf)
        better = value > best_value
        best = torch.where(better.reshape(-1, *([1] * (x.ndim - 1))), candidate, best)
        best_value = torch.where(better, value, best_value)
    return best


@dataclass(frozen=True)
class OverspendsByOne(FaultyAttack):
    """Makes one query more than the budget allows."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound candidates, then as many more passes as are left, and one."""
        x_adv = self.sound(target, x, y, threat, rng)
        left = target.remaining()
        for _ in range(0 if left is None or threat.queries is None or threat.queries > 40 else int(left.min()) + 1):
            target.logits(x_adv)
        return x_adv


@dataclass(frozen=True)
class DividesByTheGradient(FaultyAttack):
    """Divides by the norm of the gradient, which may be zero."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound candidates, times a factor that is NaN where the gradient is zero."""
        left = target.remaining()
        if left is not None and int(left.min()) < 1 + self.steps:
            return self.sound(target, x, y, threat, rng)
        gradient, _, _ = target.gradient(x, partial(margin, y, threat.targeted))
        size = torch.nan_to_num(gradient, nan=1.0).flatten(1).abs().sum(1).reshape(-1, *([1] * (x.ndim - 1)))
        return self.sound(target, x, y, threat, rng) * (size / size)


@dataclass(frozen=True)
class FollowsNan(FaultyAttack):
    """Adds the gradient even if it is NaN."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend without a check for NaN."""
        ball, left = threat.around(x, rng), target.remaining()
        x_adv = x
        for _ in range(self.steps if left is None else min(self.steps, int(left.min()))):
            gradient, _, _ = target.gradient(x_adv, partial(margin, y, threat.targeted))
            x_adv = ball.project(x_adv + 0.5 * min(ball.eps, 10.0) * ball.steepest(gradient) + 0.0 * gradient)
        return x_adv


@dataclass(frozen=True)
class DividesByEps(FaultyAttack):
    """Divides by the radius, which may be zero."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound candidates, times a factor that is NaN at eps zero."""
        return self.sound(target, x, y, threat, rng) * float(np.divide(threat.radius, threat.radius or np.nan))


@dataclass(frozen=True)
class SupportsNoNorm(FaultyAttack):
    """Declares no norm."""

    supports: ClassVar[Supports] = Supports(norms=frozenset[Norm](), targeted=True)


_seen: list[int] = []


@dataclass(frozen=True)
class HasUnplainSettings(FaultyAttack):
    """Has a setting that no record can hold."""

    weight: float = float("nan")

    def __eq__(self, other: object) -> bool:
        """Equality with copies, so that only the setting is at fault."""
        return type(other) is type(self)

    def __hash__(self) -> int:
        return 0


@dataclass(frozen=True)
class DriftsWhenRandomised(FaultyAttack):
    """Keeps state, but shows it only under more than one draw."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Take one more step on every call under expectation over transformation."""
        _seen.append(threat.eot)
        steps = 1 + len(_seen) % 2 if threat.eot > 1 else self.steps
        return ascend(target, x, y, threat.around(x, rng), targeted=threat.targeted, steps=steps)
