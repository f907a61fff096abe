"""Staircase: values are rounded down to a few levels before the model. Acme Research, 2024, no paper yet.

The worked example of a stage that has no useful gradient, and of the surrogate that an attacker gets for it (BPDA).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from benchmark.api import ConfigError, Defense, hookimpl, straight_through


@dataclass(frozen=True)
class AcmeSteps(Defense):
    """The model sees the largest of the multiples of 1 / levels that is not above the value.

    The value is that of the staircase, and the gradient that of the identity: what a staircase follows from afar. With
    `differentiable = False` instead, gradients would be zero, and the core would say so in a finding.
    """

    levels: int = 8

    def __post_init__(self) -> None:
        if self.levels < 2:
            raise ConfigError(f"acme_steps.levels is {self.levels}; expected at least 2")

    def protect(self, model: nn.Module) -> nn.Module:
        """The model behind the staircase."""
        return Behind(model, self.levels)

    def smoother(self) -> tuple[Defense, ...]:
        """The same with finer steps: an attacker who knows the stage attacks these too and hands in what transfers."""
        return (AcmeSteps(self.levels * 4),)


class Behind(nn.Module):
    """The staircase, then the model."""

    def __init__(self, model: nn.Module, levels: int) -> None:
        super().__init__()
        self.model = model
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        """(B, *S) to (B, K)."""
        stairs = (x.detach() * self.levels).floor() / self.levels
        logits: Tensor = self.model(straight_through(stairs, x))
        return logits


@hookimpl
def benchmark_component() -> type[Defense]:
    """Registers the defense."""
    return AcmeSteps
