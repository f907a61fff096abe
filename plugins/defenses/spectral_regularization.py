"""Spectral norm regularisation. Yoshida & Miyato, 2017, arXiv:1705.10941, section 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, Defense, Loss, SampleRandom, hookimpl

from ._training.operators import matrices, spectral_norm


@dataclass(frozen=True)
class SpectralRegularization(Defense):
    """Add strength / 2 times the sum over the layers of the squared largest singular value of their weights.

    A convolution's kernel is reshaped to a matrix (outputs, inputs * kh * kw), as in the paper. The norm of the
    convolution as an operator differs from that of the matrix and is at most sqrt(kh * kw) times as large.

    strength: 0.01 in the paper. steps: of power iteration, from a random vector that changes every epoch.
    """

    neutral: ClassVar[Mapping[str, Any]] = {"strength": 0.0}

    strength: float = 0.01
    steps: int = 10

    def __post_init__(self) -> None:
        if self.strength < 0.0 or self.steps < 1:
            raise ConfigError(
                f"spectral_regularization has strength {self.strength} and {self.steps} steps; expected a strength of "
                "at least 0 and at least 1 step of power iteration"
            )

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The loss of the stack and the penalty; no further pass."""
        loss = inner(model, batch)
        if self.strength == 0.0:
            return loss
        norms = [spectral_norm(matrix, steps=self.steps, seed=rng.seed) for _, matrix in matrices(model)]
        return loss + self.strength / 2.0 * torch.stack(norms).square().sum()


@hookimpl
def benchmark_component() -> type[SpectralRegularization]:
    """Register the plugin."""
    return SpectralRegularization
