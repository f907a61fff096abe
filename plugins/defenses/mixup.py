"""Mixup. Zhang, Cisse, Dauphin & Lopez-Paz, ICLR 2018, arXiv:1710.09412, section 2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, DataSpec, Defense, Examples, Loss, SampleRandom, hookimpl

from ._training.mixing import beta, labelled_softly, mixed, partners


@dataclass(frozen=True)
class Mixup(Defense):
    """Train on lambda x_i + (1 - lambda) x_j with the label mixed likewise; j is another row of the batch.

    Difference from the paper's code: lambda ~ Beta(alpha, alpha) is drawn per example, not per batch.

    alpha: in the paper 1 for CIFAR-10 and 0.2 for ImageNet; 0 mixes nothing.
    """

    neutral: ClassVar[Mapping[str, Any]] = {"alpha": 0.0}

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha < 0.0:
            raise ConfigError(f"mixup.alpha is {self.alpha}; expected at least 0")

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """Return the same examples with labels as distributions."""
        return labelled_softly(train, spec.classes) if self.alpha else train

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The loss of the stack on the mixed batch."""
        if self.alpha == 0.0:
            return inner(model, batch)
        kept, partner = beta(rng, self.alpha, stream="mixup"), partners(rng, stream="mixup")
        share = kept.reshape(-1, *([1] * (batch.x.ndim - 1)))
        x = share * batch.x + (1.0 - share) * batch.x[partner]
        return inner(model, mixed(batch, x.clamp(0.0, 1.0), partner, kept))


@hookimpl
def benchmark_component() -> type[Mixup]:
    """Register the plugin."""
    return Mixup
