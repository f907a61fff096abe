"""Defensive distillation. Papernot et al., S&P 2016, arXiv:1511.04508, section 4.

Known to mask gradients without defending: Carlini & Wagner, S&P 2017, arXiv:1608.04644.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, DataSpec, Defense, Examples, Loss, SampleRandom, hookimpl

from ._training.companions import Fit, fitted
from ._training.passes import Tempered


@dataclass(frozen=True)
class Distillation(Defense):
    """Train on the probabilities of a teacher, both at a high temperature, and deploy at temperature 1.

    The teacher has the same architecture and initial weights, and is trained first by the same recipe.

    temperature: 20 in the paper's tables, and 1 to 100 in its sweep.
    """

    temperature: float = 20.0

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise ConfigError(f"distillation.temperature is {self.temperature}; expected more than 0")

    def start(self, model: nn.Module, train: Examples, spec: DataSpec, fit: Fit) -> Defense:
        """Train the teacher; afterwards each batch costs the student one further forward pass."""
        settings = {f.name: getattr(self, f.name) for f in fields(Distillation)}
        return _Distilling(**settings, teacher=fitted(model, train, fit, self.temperature))

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The loss of the stack at the temperature."""
        return inner(Tempered(model, self.temperature), batch)


@dataclass(frozen=True)
class _Distilling(Distillation):
    """Distillation with a trained teacher."""

    teacher: Any = field(default=None, compare=False, repr=False)

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The loss of the stack at the temperature, on the teacher's probabilities instead of the labels."""
        teacher: nn.Module = self.teacher.to(batch.x.device)
        with torch.no_grad():
            soft = torch.softmax(teacher(batch.x) / self.temperature, 1)
        return super().loss(model, replace(batch, soft=soft), inner, rng)


@hookimpl
def benchmark_component() -> type[Distillation]:
    """Register the plugin."""
    return Distillation
