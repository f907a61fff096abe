"""Gradient alignment (GradAlign). Andriushchenko & Flammarion, NeurIPS 2020, arXiv:2007.02617, section 4.

For use with single-step adversarial training, whose catastrophic overfitting it prevents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, Defense, Loss, SampleRandom, Threat, hookimpl, parse_eps

from ._training.passes import Undisturbed
from .gradient_regularization import input_gradient


@dataclass(frozen=True)
class GradientAlignment(Defense):
    """Add strength times the mean of 1 - cos(g(x), g(x + u)), with g the input gradient of the cross-entropy.

    u is uniform in the linf ball of radius eps. A row with a zero gradient counts as not aligned (1).

    strength: 0.2 in the paper for CIFAR-10 at 8/255. eps: in units of the [0, 1] input range.
    """

    neutral: ClassVar[Mapping[str, Any]] = {"strength": 0.0}

    strength: float = 0.2
    eps: str = "1/10"

    def __post_init__(self) -> None:
        if self.strength < 0.0:
            raise ConfigError(f"gradient_alignment.strength is {self.strength}; expected at least 0")
        self.training_threat()

    def training_threat(self) -> Threat:
        """The linf ball in which gradients are to be aligned."""
        return Threat(eps=Fraction(parse_eps(self.eps)))

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The loss of the stack and the penalty; two further forward and two differentiated backward passes."""
        loss = inner(model, batch)
        if self.strength == 0.0:
            return loss
        eps, x = self.training_threat().radius, batch.x
        moved = x + rng.uniform(*x.shape[1:], stream="gradient_alignment", low=-eps, high=eps).to(x.dtype)
        return loss + self.strength * misalignment(Undisturbed(model), x, moved, batch.y).mean()


def misalignment(model: nn.Module, x: Tensor, moved: Tensor, y: Tensor) -> Tensor:
    """One minus the cosine of the input gradients at `x` and at `moved` (B, *S), (B,)."""
    one, other = (input_gradient(model, at, y).flatten(1) for at in (x, moved))
    product = (one * one).sum(1) * (other * other).sum(1)
    alive = product > 0.0
    size = product.where(alive, product.new_ones(())).sqrt()
    return 1.0 - ((one * other).sum(1) / size).where(alive, product.new_zeros(()))


@hookimpl
def benchmark_component() -> type[GradientAlignment]:
    """Register the plugin."""
    return GradientAlignment
