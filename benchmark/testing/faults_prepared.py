"""Prepared attacks that each break one promise; :mod:`benchmark.testing.faults` names the rules they break.

The sound one adds a universal perturbation (Moosavi-Dezfooli et al., CVPR 2017, arXiv:1610.08401): one step along the
mean gradient of all its examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import PreparedAttack, Supports
from benchmark.sampling import SampleRandom
from benchmark.system.target import Target
from benchmark.testing.faults_attack import margin
from benchmark.threat import Norm, Threat

__all__ = ["DrawsWhilePreparing", "OverspendsWhilePreparing", "PreparesAnew", "SoundPrepared"]


@dataclass(frozen=True)
class SoundPrepared(PreparedAttack):
    """A prepared attack that keeps every rule; each faulty one differs from it in one place."""

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf}))

    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> dict[str, Tensor]:
        """Sign of the mean gradient; one pass per example."""
        gradient, _, _ = target.gradient(x, lambda logits: margin(y, False, logits))
        return {"sign": gradient.nan_to_num().mean(0).sign()}

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Add the perturbation to every example with the sign that is worse for it."""
        ball, delta = threat.around(x, rng), threat.radius * target.prepared["sign"]
        one, other = ball.project(x + delta), ball.project(x - delta)
        left = target.remaining()
        if left is not None and int(left.min()) < 2:
            return one
        gain = margin(y, False, target.logits(one)) - margin(y, False, target.logits(other))
        return torch.where((gain >= 0).reshape(-1, *([1] * (x.ndim - 1))), one, other)


_calls: list[int] = []


@dataclass(frozen=True)
class PreparesAnew(SoundPrepared):
    """Keeps state between calls, visible only in the preparation."""

    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> dict[str, Tensor]:
        """Sound preparation, with the other sign on every second call."""
        made = super().prepare(target, x, y, threat=threat, rng=rng)
        _calls.append(1)
        return {"sign": made["sign"] * (-1) ** len(_calls)} if threat.queries == 64 else made


@dataclass(frozen=True)
class DrawsWhilePreparing(SoundPrepared):
    """Draws from torch's generator before it begins."""

    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> dict[str, Tensor]:
        """Sound preparation, after an unused draw."""
        torch.rand(1)
        return super().prepare(target, x, y, threat=threat, rng=rng)


@dataclass(frozen=True)
class OverspendsWhilePreparing(SoundPrepared):
    """Queries each of its examples twice, regardless of the budget."""

    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> dict[str, Tensor]:
        """Sound preparation, with one pass too many for a budget of one."""
        target.logits(x)
        return super().prepare(target, x, y, threat=threat, rng=rng)
