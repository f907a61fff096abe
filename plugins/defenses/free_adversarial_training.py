"""Free adversarial training. Shafahi et al., NeurIPS 2019, arXiv:1904.12843, algorithm 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, Defense, Loss, SampleRandom, Threat, hookimpl, parse_eps


@dataclass(frozen=True)
class FreeAdversarialTraining(Defense):
    """Update perturbation and weights by the same backward pass, several times in a row on each batch.

    The perturbation carries over from batch to batch; a smaller batch uses its first rows. An epoch takes 1 / m of the
    batches, m times each, and so costs as much as an epoch of plain training. Difference from the paper: the
    perturbation starts from zero in each epoch, so that training can resume at any epoch.

    eps: linf radius and step size, in units of the [0, 1] input range; equal, as in the paper.
    m: steps in a row on each batch; 8 in the paper for CIFAR-10.
    """

    neutral: ClassVar[Mapping[str, Any]] = {"eps": "0", "m": 1}

    eps: str = "1/10"
    m: int = 8

    def __post_init__(self) -> None:
        self.training_threat()
        if self.m < 1:
            raise ConfigError(f"free_adversarial_training.m is {self.m}; expected at least 1 step on each batch")

    def training_threat(self) -> Threat:
        """The linf ball of training."""
        return Threat(eps=Fraction(parse_eps(self.eps)))

    def replays(self) -> int:
        """Number of steps per batch, m."""
        return self.m

    def at_epoch(self, epoch: int, epochs: int) -> Defense:
        """The defense with a perturbation to carry over, zero at first."""
        return _Replaying(**{f.name: getattr(self, f.name) for f in fields(FreeAdversarialTraining)})

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The loss at x + delta; its backward pass updates delta. One forward and one backward pass."""
        eps = self.training_threat().radius
        if eps == 0.0:
            return inner(model, batch)
        carried = self.carried()
        delta = carried.rows(batch.x)
        x_adv = (batch.x + delta).clamp(0.0, 1.0).requires_grad_(True)
        x_adv.register_hook(lambda slope: carried.keep((delta + eps * slope.sign()).clamp(-eps, eps)))
        return inner(model, replace(batch, x=x_adv))

    def carried(self) -> Carried:
        """The perturbation of the last batch; zero outside an epoch."""
        return Carried()


class Carried:
    """A perturbation (B, *S) that carries over between batches."""

    def __init__(self) -> None:
        self.delta: Tensor | None = None

    def rows(self, x: Tensor) -> Tensor:
        """Perturbation for `x`, (B, *S); rows without one are zero."""
        now = torch.zeros_like(x)
        if self.delta is not None:
            count = min(len(x), len(self.delta))
            now[:count] = self.delta[:count]
        return now

    def keep(self, delta: Tensor) -> None:
        """Replace the first rows; the rest of a larger earlier batch is kept."""
        if self.delta is not None and len(self.delta) > len(delta):
            delta = torch.cat([delta, self.delta[len(delta) :]])
        self.delta = delta.detach()


@dataclass(frozen=True)
class _Replaying(FreeAdversarialTraining):
    """Free adversarial training during one epoch."""

    last: Carried = field(default_factory=Carried, compare=False, repr=False)

    def carried(self) -> Carried:
        return self.last


@hookimpl
def benchmark_component() -> type[FreeAdversarialTraining]:
    """Register the plugin."""
    return FreeAdversarialTraining
