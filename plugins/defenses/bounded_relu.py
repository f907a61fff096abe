"""Bounded ReLU. Zantedeschi, Nicolae & Rawat, AISec 2017, arXiv:1707.06728, section 4.1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import ConfigError, DataSpec, Defense, Refused, hookimpl


@dataclass(frozen=True)
class BoundedReLU(Defense):
    """Replace every ReLU of the architecture by min(max(z, 0), bound). bound: 1 in the paper."""

    neutral: ClassVar[Mapping[str, Any]] = {"bound": math.inf}

    bound: float = 1.0

    def __post_init__(self) -> None:
        if not self.bound > 0.0:
            raise ConfigError(f"bounded_relu.bound is {self.bound}; expected more than 0")

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Replace the ReLUs; layers and weights stay the same.

        Raises:
            Refused: if no module of the architecture is an nn.ReLU.
        """
        found = [
            (parent, name) for parent in model.modules() for name, m in parent.named_children() if type(m) is nn.ReLU
        ]
        if not found:
            raise Refused(
                f"defense.bounded_relu replaces modules of the type nn.ReLU, but {type(model).__name__} has none; "
                "choose a model with ReLUs, such as small_cnn, mlp or resnet"
            )
        for parent, name in found:
            setattr(parent, name, Bounded(self.bound))
        return model


class Bounded(nn.Module):
    """min(max(z, 0), bound); its slope is 1 between 0 and bound, and 0 outside."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, z: Tensor) -> Tensor:
        """Apply elementwise; any shape."""
        return torch.relu(z).clamp_max(self.bound)


@hookimpl
def benchmark_component() -> type[BoundedReLU]:
    """Register the plugin."""
    return BoundedReLU
