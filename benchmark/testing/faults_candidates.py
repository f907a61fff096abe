"""Attacks whose candidates break a promise: location, shape, dtype or the range of supported examples.

They are made from that of :mod:`benchmark.testing.faults_attack`: Carlini & Wagner, IEEE S&P 2017, arXiv:1608.04644.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.sampling import SampleRandom
from benchmark.system.target import Target
from benchmark.testing.faults_attack import FaultyAttack, ascend
from benchmark.threat import Threat
from benchmark.threat.ball import Ball

__all__ = []


@dataclass(frozen=True)
class LeavesTheBall(FaultyAttack):
    """Uses one and a half times the radius, inside the box and the region."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend in a ball that is too large."""
        ball = threat.around(x, rng)
        wide = Ball(ball.x, ball.norm, 1.5 * ball.eps, ball.mask)
        return ascend(target, x, y, wide, targeted=threat.targeted, steps=self.steps)


@dataclass(frozen=True)
class IgnoresTheRegion(FaultyAttack):
    """Changes features that the threat's region forbids."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend without the mask."""
        ball = Ball(x, threat.norm, threat.radius)
        return ascend(target, x, y, ball, targeted=threat.targeted, steps=self.steps)


@dataclass(frozen=True)
class NeverMoves(FaultyAttack):
    """Asks for gradients and returns the clean input."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend, and discard the result."""
        self.sound(target, x, y, threat, rng)
        return x.clone()


@dataclass(frozen=True)
class MistakesTheGoal(FaultyAttack):
    """Under a targeted threat, moves away from the target label."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Ascend as if untargeted."""
        return ascend(target, x, y, threat.around(x, rng), targeted=False, steps=self.steps)


@dataclass(frozen=True)
class ReturnsDoubles(FaultyAttack):
    """Returns float64."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound candidates in the wrong dtype."""
        return self.sound(target, x, y, threat, rng).double()


@dataclass(frozen=True)
class ReturnsSingles(FaultyAttack):
    """Returns float32 for any dtype of the input."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound candidates, rounded."""
        return self.sound(target, x, y, threat, rng).float()


@dataclass(frozen=True)
class KnowsTenClasses(FaultyAttack):
    """Fails on more than ten classes."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound candidates, after a lookup in a list that is too short."""
        _places = torch.zeros(10)[y]
        return self.sound(target, x, y, threat, rng)


@dataclass(frozen=True)
class NeedsThreeClassesForATarget(FaultyAttack):
    """Needs a second rival of the target label, which two classes do not have."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound candidates, after a look at the scores."""
        if threat.targeted and target.remaining() is not None:
            target.logits(x).topk(3)
        return self.sound(target, x, y, threat, rng)


@dataclass(frozen=True)
class NeedsSinglesInARegion(FaultyAttack):
    """Fills features outside the region in single precision, for any dtype of the input."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound candidates, if their precision fits."""
        x_adv = self.sound(target, x, y, threat, rng)
        mask = threat.around(x, rng).mask
        return (
            x_adv if mask is None else x_adv.index_copy(0, torch.arange(len(x)), x_adv.float().where(mask, x.float()))
        )


@dataclass(frozen=True)
class SqueezesOneExample(FaultyAttack):
    """Loses the batch dimension of a single example."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Sound candidates, squeezed."""
        x_adv = self.sound(target, x, y, threat, rng)
        return x_adv[0] if len(x) == 1 and x.shape[1] == 3 else x_adv


@dataclass(frozen=True)
class NeedsThreeChannels(FaultyAttack):
    """Fails on anything but colour images, without saying what it needs."""

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Read the height and width of an image."""
        _batch, _channels, _height, _width = x.shape
        return self.sound(target, x, y, threat, rng)
