"""Jacobian regularisation by random projections. Hoffman, Roberts & Yaida, 2019, arXiv:1908.02729, section 2.3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, Defense, Loss, SampleRandom, hookimpl

from ._training.passes import Undisturbed


@dataclass(frozen=True)
class JacobianRegularization(Defense):
    """Add strength / 2 times the mean over the batch of an unbiased estimate of || dz / dx ||_F^2, z the logits.

    strength: 0.01 in the paper. projections: random directions per example; 1 in the paper.
    """

    neutral: ClassVar[Mapping[str, Any]] = {"strength": 0.0}

    strength: float = 0.01
    projections: int = 1

    def __post_init__(self) -> None:
        if self.strength < 0.0 or self.projections < 1:
            raise ConfigError(
                f"jacobian_regularization has strength {self.strength} and {self.projections} projections; expected a "
                "strength of at least 0 and at least 1 projection"
            )

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The loss of the stack and the penalty; one further forward pass, and a backward pass per projection."""
        loss = inner(model, batch)
        if self.strength == 0.0:
            return loss
        squared = squared_jacobian(Undisturbed(model), batch.x, projections=self.projections, rng=rng)
        return loss + self.strength / 2.0 * squared.mean()


def squared_jacobian(model: nn.Module, x: Tensor, *, projections: int, rng: SampleRandom) -> Tensor:
    """Mean over directions v, uniform on the unit sphere of R^K, of K || v^T dz / dx ||_2^2, (B,)."""
    leaf = x.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        logits = model(leaf)
        total = torch.zeros_like(logits[:, 0])
        for draw in range(projections):
            v = rng.normal(logits.shape[1], stream="jacobian_regularization", draw=draw).to(logits)
            v = v / v.norm(dim=1, keepdim=True).clamp_min(1e-12)
            (pulled,) = torch.autograd.grad(logits, leaf, v, create_graph=True)
            total = total + pulled.flatten(1).square().sum(1)
    mean: Tensor = total * (logits.shape[1] / projections)
    return mean


@hookimpl
def benchmark_component() -> type[JacobianRegularization]:
    """Register the plugin."""
    return JacobianRegularization
