"""Training with a share of generated data. Gowal et al., NeurIPS 2021, arXiv:2110.09468, section 4.

The generator is their simplest, a Gaussian per class, fitted to the training examples without a download.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, DataSpec, Defense, Examples, Loss, SampleRandom, hookimpl

from ._training.mixing import chosen


@dataclass(frozen=True)
class GeneratedData(Defense):
    """Replace a share of each batch by newly generated examples.

    List it after the defense that is to train on them: later defenses in the stack act first. Labels are uniform.

    share: exactly round(share B) rows of a batch; 0.3 to 0.8 in the paper. rank: principal directions kept of each
    class's covariance. examples: number per class that the generator is fitted to.
    """

    neutral: ClassVar[Mapping[str, Any]] = {"share": 0.0}

    share: float = 0.5
    rank: int = 64
    examples: int = 1000

    def __post_init__(self) -> None:
        if not 0.0 <= self.share < 1.0 or self.rank < 1 or self.examples < 2:
            raise ConfigError(
                f"generated_data has share {self.share}, rank {self.rank} and {self.examples} examples per class; "
                "expected a share in [0, 1), a rank of at least 1 and at least 2 examples"
            )

    def start(self, model: nn.Module, train: Examples, spec: DataSpec, fit: object) -> Defense:
        """Fit the generator in closed form."""
        if self.share == 0.0:
            return self
        places = [(train.y == label).nonzero().squeeze(1)[: self.examples] for label in range(spec.classes)]
        gaussians = [Gaussian.fitted(train.x(at) if len(at) else train.x(), self.rank) for at in places]
        settings = {f.name: getattr(self, f.name) for f in fields(GeneratedData)}
        return _Generating(**settings, gaussians=tuple(gaussians))

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The loss of the stack, unchanged until the generator is fitted."""
        return inner(model, batch)


@dataclass(frozen=True)
class Gaussian:
    """N(mean, factor factor^T), clipped to [0, 1]. mean: (*S). factor: (D, r)."""

    mean: Tensor
    factor: Tensor

    @classmethod
    def fitted(cls, x: Tensor, rank: int) -> Gaussian:
        """Mean and covariance of `x` (n, *S), the covariance of rank at most `rank`."""
        mean = x.mean(0)
        _, spread, directions = torch.linalg.svd((x - mean).flatten(1), full_matrices=False)
        return cls(mean, (directions[:rank].T * spread[:rank]) / max(1, len(x) - 1) ** 0.5)

    def drawn(self, rng: SampleRandom) -> Tensor:
        """One example per row, (B, *S)."""
        z = rng.normal(self.factor.shape[1], stream="generated_data/example").to(self.factor.device)
        return (self.mean + (z @ self.factor.T).reshape(-1, *self.mean.shape)).clamp(0.0, 1.0)

    def to(self, device: torch.device) -> Gaussian:
        """Copy to a device."""
        return Gaussian(self.mean.to(device), self.factor.to(device))


@dataclass(frozen=True)
class _Generating(GeneratedData):
    """Training with a Gaussian fitted to each class."""

    gaussians: tuple[Gaussian, ...] = field(default=(), compare=False, repr=False)

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The loss of the stack on the batch with generated rows."""
        who = chosen(rng, self.share, stream="generated_data")
        own = rng.rows(who)
        label = own.integers(len(self.gaussians), stream="generated_data/label")
        new = batch.x[who]
        for place, gaussian in enumerate(self.gaussians):
            at = (label == place).nonzero().squeeze(1)
            new = new.index_copy(0, at, gaussian.to(new.device).drawn(own.rows(at)).to(new.dtype))
        soft = batch.soft
        if soft is not None:
            soft = soft.index_copy(0, who, F.one_hot(label, soft.shape[1]).to(soft))
        return inner(
            model, replace(batch, x=batch.x.index_copy(0, who, new), y=batch.y.index_copy(0, who, label), soft=soft)
        )


@hookimpl
def benchmark_component() -> type[GeneratedData]:
    """Register the plugin."""
    return GeneratedData
