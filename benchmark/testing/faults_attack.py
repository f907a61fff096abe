"""Attacks that each break one promise, made from a sound one; :mod:`benchmark.testing.faults` says who catches them.

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

__all__ = ["SoundAttack", "ascend", "margin"]


def margin(y: Tensor, targeted: bool, logits: Tensor) -> Tensor:
    """Best wrong logit minus that of `y`, (B,); the other way round for labels to reach."""
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
    """Keeps every rule; the faulty ones differ from it in one place."""

    supports: ClassVar[Supports] = Supports(targeted=True)
    steps: int = 4

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend inside the ball."""
        return ascend(target, x, y, threat.around(x, rng), targeted=threat.targeted, steps=self.steps)


class _Faulty(SoundAttack):
    """Calls the sound attack, with something wrong before or after it."""

    def sound(self, target: Target, x: Tensor, y: Tensor, threat: Threat, rng: SampleRandom) -> Tensor:
        return SoundAttack.perturb(self, target, x, y, threat=threat, rng=rng)


@dataclass(frozen=True)
class LeavesTheBall(_Faulty):
    """Uses one and a half times the radius, in the box and the region."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend in a ball that is too large."""
        ball = threat.around(x, rng)
        wide = Ball(ball.x, ball.norm, 1.5 * ball.eps, ball.mask)
        return ascend(target, x, y, wide, targeted=threat.targeted, steps=self.steps)


@dataclass(frozen=True)
class IgnoresTheRegion(_Faulty):
    """Changes features that the threat's region forbids."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend without the mask."""
        ball = Ball(x, threat.norm, threat.radius)
        return ascend(target, x, y, ball, targeted=threat.targeted, steps=self.steps)


@dataclass(frozen=True)
class NeverMoves(_Faulty):
    """Asks for gradients and returns the clean input."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend, and forget the result."""
        self.sound(target, x, y, threat, rng)
        return x.clone()


@dataclass(frozen=True)
class MistakesTheGoal(_Faulty):
    """Under a targeted threat, leaves the label that it should reach."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend as if untargeted."""
        return ascend(target, x, y, threat.around(x, rng), targeted=False, steps=self.steps)


@dataclass(frozen=True)
class ReturnsDoubles(_Faulty):
    """Returns float64."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The right candidates in the wrong dtype."""
        return self.sound(target, x, y, threat, rng).double()


@dataclass(frozen=True)
class ReturnsSingles(_Faulty):
    """Returns float32 whatever it is given."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The right candidates, rounded."""
        return self.sound(target, x, y, threat, rng).float()


@dataclass(frozen=True)
class KnowsTenClasses(_Faulty):
    """Has a place for ten classes, and no more."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The right candidates, after a look at a list that is too short."""
        _places = torch.zeros(10)[y]
        return self.sound(target, x, y, threat, rng)


@dataclass(frozen=True)
class NeedsThreeClassesForATarget(_Faulty):
    """Looks for a second rival of the label to reach, and there is none of two classes."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The right candidates, after a look at the scores."""
        if threat.targeted and target.remaining() is not None:
            target.logits(x).topk(3)
        return self.sound(target, x, y, threat, rng)


@dataclass(frozen=True)
class NeedsSinglesInARegion(_Faulty):
    """Fills what lies outside the region with single precision, whatever the input is."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The right candidates, if their precision fits."""
        x_adv = self.sound(target, x, y, threat, rng)
        mask = threat.around(x, rng).mask
        return (
            x_adv if mask is None else x_adv.index_copy(0, torch.arange(len(x)), x_adv.float().where(mask, x.float()))
        )


@dataclass(frozen=True)
class SqueezesOneExample(_Faulty):
    """Loses the batch dimension of a single example."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The right candidates, squeezed."""
        x_adv = self.sound(target, x, y, threat, rng)
        return x_adv[0] if len(x) == 1 and x.shape[1] == 3 else x_adv


@dataclass(frozen=True)
class NeedsThreeChannels(_Faulty):
    """Fails on anything but colour images, without saying what it needs."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Read the height and width of an image."""
        _batch, _channels, _height, _width = x.shape
        return self.sound(target, x, y, threat, rng)


@dataclass(frozen=True)
class ChangesItsInput(_Faulty):
    """Writes into x, after the result is computed."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The right candidates, and x overwritten."""
        x_adv = self.sound(target, x, y, threat, rng).clone()
        x.zero_()
        return x_adv


@dataclass(frozen=True)
class ChangesTheModel(_Faulty):
    """Reaches for the weights behind the target, and writes into a buffer."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The right candidates, and a buffer counted up."""
        for buffer in target._passes.reach().buffers():
            buffer.add_(1.0)
        return self.sound(target, x, y, threat, rng)


@dataclass(frozen=True)
class AsksBehindTheTarget(_Faulty):
    """Makes a forward pass that nobody counts."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The right candidates, and one pass through the model itself."""
        with torch.no_grad():
            try:
                target._passes.reach()(x)
            except RuntimeError:
                return self.sound(target, x, y, threat, rng)
        return self.sound(target, x, y, threat, rng)


@dataclass(frozen=True)
class DrawsFromTorch(_Faulty):
    """Draws from torch's global generator."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The right candidates, after one draw."""
        torch.rand(1)
        return self.sound(target, x, y, threat, rng)


@dataclass(frozen=True)
class DrawsFromNumpy(_Faulty):
    """Draws from NumPy's global generator."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The right candidates, after one draw."""
        np.random.rand()  # noqa: NPY002
        return self.sound(target, x, y, threat, rng)


@dataclass(frozen=True)
class SeedsPython(_Faulty):
    """Seeds Python's generator."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The right candidates, after a new seed."""
        random.seed(12345)
        return self.sound(target, x, y, threat, rng)


_calls = [0]


@dataclass(frozen=True)
class CountsItsCalls(_Faulty):
    """Keeps state between calls: every second one takes a step less."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Other candidates every second time a batch of six is attacked without a shift of the seed."""
        _calls[0] += 1
        steps = 1 + _calls[0] % 2
        return ascend(target, x, y, threat.around(x, rng), targeted=threat.targeted, steps=steps)


@dataclass(frozen=True)
class HidesItsRandomness(_Faulty):
    """Starts at random, and declares that it is not random."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend from a random start."""
        ball = threat.around(x, rng)
        return ascend(target, ball.random(rng, stream="start"), y, ball, targeted=threat.targeted, steps=self.steps)


@dataclass(frozen=True)
class NormalisesOverTheBatch(_Faulty):
    """Divides the gradient by a norm over the whole batch."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """One step against a threshold that depends on the other examples."""
        ball, left = threat.around(x, rng), target.remaining()
        x_adv = x
        for _ in range(self.steps if left is None else min(self.steps, int(left.min()))):
            gradient, _, _ = target.gradient(x_adv, partial(margin, y, threat.targeted))
            gradient = torch.nan_to_num(gradient)
            large = gradient.abs() >= gradient.abs().mean()
            x_adv = ball.project(x_adv + 0.5 * min(ball.eps, 10.0) * ball.steepest(gradient * large))
        return x_adv


def _absolute(y: Tensor, targeted: bool, logits: Tensor) -> Tensor:
    """Minus the size of the logit of `y`, as if a logit of zero meant something, (B,)."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    gain = torch.where(own > 20.0, own - others, others - own)
    return -gain if targeted else gain


@dataclass(frozen=True)
class ReadsLogitsAgainstZero(_Faulty):
    """Compares a logit with a constant."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend a loss that turns round where logits are large."""
        ball, left = threat.around(x, rng), target.remaining()
        x_adv = x
        for _ in range(self.steps if left is None else min(self.steps, int(left.min()))):
            gradient, _, _ = target.gradient(x_adv, partial(_absolute, y, threat.targeted))
            x_adv = ball.project(x_adv + 0.5 * min(ball.eps, 10.0) * ball.steepest(torch.nan_to_num(gradient)))
        return x_adv


@dataclass(frozen=True)
class UsesGradientsUnderScores(_Faulty):
    """Declares that scores are enough, and asks for gradients."""

    supports: ClassVar[Supports] = Supports(targeted=True, access=Access.scores)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend where gradients are given; elsewhere ask for them all the same, in one of the suite's trials."""
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
class OverspendsByOne(_Faulty):
    """Asks once more than the budget allows."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The right candidates, then as many more passes as are left, and one."""
        x_adv = self.sound(target, x, y, threat, rng)
        left = target.remaining()
        for _ in range(0 if left is None or threat.queries is None or threat.queries > 40 else int(left.min()) + 1):
            target.logits(x_adv)
        return x_adv


@dataclass(frozen=True)
class DividesByTheGradient(_Faulty):
    """Divides by the size of the gradient, which may be zero."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The right candidates, times one that is NaN where the gradient is zero."""
        left = target.remaining()
        if left is not None and int(left.min()) < 1 + self.steps:
            return self.sound(target, x, y, threat, rng)
        gradient, _, _ = target.gradient(x, partial(margin, y, threat.targeted))
        size = torch.nan_to_num(gradient, nan=1.0).flatten(1).abs().sum(1).reshape(-1, *([1] * (x.ndim - 1)))
        return self.sound(target, x, y, threat, rng) * (size / size)


@dataclass(frozen=True)
class FollowsNan(_Faulty):
    """Adds the gradient whatever it is."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend without a look at NaN."""
        ball, left = threat.around(x, rng), target.remaining()
        x_adv = x
        for _ in range(self.steps if left is None else min(self.steps, int(left.min()))):
            gradient, _, _ = target.gradient(x_adv, partial(margin, y, threat.targeted))
            x_adv = ball.project(x_adv + 0.5 * min(ball.eps, 10.0) * ball.steepest(gradient) + 0.0 * gradient)
        return x_adv


@dataclass(frozen=True)
class DividesByEps(_Faulty):
    """Measures the step in radii, and a radius may be zero."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The right candidates, times one that is NaN at eps zero."""
        return self.sound(target, x, y, threat, rng) * float(np.divide(threat.radius, threat.radius or np.nan))


@dataclass(frozen=True)
class SupportsNoNorm(_Faulty):
    """Declares no norm at all."""

    supports: ClassVar[Supports] = Supports(norms=frozenset[Norm](), targeted=True)


_seen: list[int] = []


@dataclass(frozen=True)
class HasUnplainSettings(_Faulty):
    """Has a setting that no record can hold."""

    weight: float = float("nan")

    def __eq__(self, other: object) -> bool:
        """Equal to its copies, so that only the setting is at fault."""
        return type(other) is type(self)

    def __hash__(self) -> int:
        return 0


@dataclass(frozen=True)
class DriftsWhenRandomised(_Faulty):
    """Keeps state, but only shows it under more than one draw."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """A step more on every call under expectation over transformation."""
        _seen.append(threat.eot)
        steps = 1 + len(_seen) % 2 if threat.eot > 1 else self.steps
        return ascend(target, x, y, threat.around(x, rng), targeted=threat.targeted, steps=steps)
