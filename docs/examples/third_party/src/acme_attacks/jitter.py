"""Jitter: Gaussian noise on every input, decided by a vote. Acme Research, 2024, no paper yet.

The worked example of a random defense: its draws come from `ambient()`, and the core decides each answer by a vote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from benchmark.api import ConfigError, Defense, hookimpl
from benchmark.sampling import ambient


@dataclass(frozen=True)
class AcmeJitter(Defense):
    """sigma: standard deviation of the noise, in units of the [0, 1] input range. votes: draws that decide an answer.

    At sigma 0 the stage changes nothing, bit for bit, which `neutral` declares and the contract suite tries.
    """

    randomized = True
    neutral: ClassVar = {"sigma": 0.0}

    sigma: float = 0.05
    votes: int = 9

    def __post_init__(self) -> None:
        if self.sigma < 0.0 or self.votes < 1:
            raise ConfigError(
                f"acme_jitter has sigma {self.sigma} and votes {self.votes}; expected a standard deviation of at least "
                "0 and at least 1 vote"
            )

    def protect(self, model: nn.Module) -> nn.Module:
        """The model behind the noise."""
        return Noisy(model, self.sigma)


class Noisy(nn.Module):
    """Noise, then the model: the noise of an example is its own, whatever batch it is in, and another in every pass."""

    def __init__(self, model: nn.Module, sigma: float) -> None:
        super().__init__()
        self.model = model
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        """(B, *S) to (B, K)."""
        noise = ambient().normal(*x.shape[1:], stream="acme_jitter").to(x)
        logits: Tensor = self.model(x + self.sigma * noise)
        return logits


@hookimpl
def benchmark_component() -> type[Defense]:
    """Registers the defense."""
    return AcmeJitter
