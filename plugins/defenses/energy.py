"""Free energy as a detector. Liu, Wang, Owens & Li, NeurIPS 2020, arXiv:2010.03759, section 3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from benchmark.api import ConfigError, Defense, hookimpl


@dataclass(frozen=True)
class Energy(Defense):
    """Detect inputs of high free energy -T logsumexp(z / T), where z are the logits. Fits nothing; costs one pass.

    Unlike a probability, the score depends on constants added to all logits.

    temperature: T; as T tends to 0 the energy tends to minus the largest logit.
    """

    detects: ClassVar[bool] = True

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise ConfigError(f"energy.temperature is {self.temperature}; expected a temperature above 0")

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Free energy, (B,) float32, in units of logits."""
        return free_energy(model(x), self.temperature)


def free_energy(logits: Tensor, temperature: float) -> Tensor:
    """Free energy -T logsumexp(logits / T) of logits (B, K), (B,)."""
    return -temperature * (logits / temperature).logsumexp(1)


@hookimpl
def benchmark_component() -> type[Defense]:
    """Register the plugin."""
    return Energy
