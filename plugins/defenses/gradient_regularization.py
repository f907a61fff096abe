"""Input gradient regularisation by double backpropagation. Ross & Doshi-Velez, AAAI 2018, arXiv:1711.09404."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, Defense, Loss, SampleRandom, hookimpl

from ._training.objectives import cross_entropy
from ._training.passes import Undisturbed


@dataclass(frozen=True)
class GradientRegularization(Defense):
    """Add strength times the mean over the batch of || grad_x CE(x, y) ||_2^2, at the clean inputs.

    strength: the paper tries 0.1 to 1000 for inputs in [0, 1].
    """

    neutral: ClassVar[Mapping[str, Any]] = {"strength": 0.0}

    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.strength < 0.0:
            raise ConfigError(f"gradient_regularization.strength is {self.strength}; expected at least 0")

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The loss of the stack and the penalty; one further forward pass and one differentiated backward pass."""
        loss = inner(model, batch)
        if self.strength == 0.0:
            return loss
        slope = input_gradient(Undisturbed(model), batch.x, batch.y)
        return loss + self.strength * slope.flatten(1).square().sum(1).mean()


def input_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of each row's cross-entropy at `x` (B, *S), differentiable by the weights, (B, *S)."""
    leaf = x.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(cross_entropy(model(leaf), y).sum(), leaf, create_graph=True)
    return slope


@hookimpl
def benchmark_component() -> type[GradientRegularization]:
    """Register the plugin."""
    return GradientRegularization
