"""Thermometer encoding. Buckman, Roy, Raffel & Goodfellow, ICLR 2018, section 3; broken by Athalye et al., ICML 2018.

A value x becomes k bits, and bit j is 1 where x > j / k. The network then sees a staircase, of which training chooses
the height of each step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import ConfigError, DataSpec, Defense, hookimpl, straight_through

from ._transforms.behind import Behind


@dataclass(frozen=True)
class Thermometer(Defense):
    """Encode each value by `levels` bits, and weigh them into one value again by trained weights per channel.

    soft: deploy the bits clamp(levels * x - j, 0, 1), which rise linearly: nothing is quantised. They are the
    surrogate for gradients of the hard bits (BPDA, Athalye et al., ICML 2018, section 5.1).
    Difference from the paper: the first layer of the network does not see the bits of a value apart, but their weighted
    sum, which starts as the quantised value; so any network will do, and one with given weights as well.
    """

    neutral: ClassVar = {"soft": True}

    levels: int = 16
    soft: bool = False

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ConfigError(f"thermometer.levels is {self.levels}; expected at least 1 bit per value")

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """The model behind the weights of the bits."""
        return Encoded(model, spec, self.levels)

    def protect(self, model: nn.Module) -> nn.Module:
        """The model behind the staircase."""
        return model if self.soft else Behind(model, partial(_stairs, levels=self.levels))

    def smoother(self) -> tuple[Defense, ...]:
        """The soft bits."""
        return () if self.soft else (replace(self, soft=True),)


class Encoded(nn.Module):
    """A model of the weighted bits of its input: hard bits in training, soft ones else.

    weight: (S[0], levels), the step heights of each channel or feature. bias: (S[0],).
    """

    def __init__(self, model: nn.Module, spec: DataSpec, levels: int) -> None:
        super().__init__()
        self.model, self.levels = model, levels
        self.weight = nn.Parameter(torch.full((spec.shape[0], levels), 1.0 / levels))
        self.bias = nn.Parameter(torch.zeros(spec.shape[0]))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *S) to logits (B, K)."""
        bits = soft_bits(quantised(x, self.levels) if self.training else x, self.levels)
        shape = (-1, *[1] * (x.ndim - 2))
        value = (bits * self.weight.reshape(*shape, self.levels)).sum(-1) + self.bias.reshape(shape)
        logits: Tensor = self.model(value)
        return logits


def quantised(x: Tensor, levels: int) -> Tensor:
    """`x` (any shape) in [0, 1], rounded up to a multiple of 1 / levels: the share of the thresholds that it passes."""
    return torch.ceil(x * levels) / levels


def soft_bits(x: Tensor, levels: int) -> Tensor:
    """(..., levels): clamp(levels * x - j, 0, 1) for j = 0 .. levels - 1; of a quantised value the bits themselves."""
    return (levels * x[..., None] - torch.arange(levels, dtype=x.dtype, device=x.device)).clamp(0.0, 1.0)


def _stairs(x: Tensor, levels: int) -> Tensor:
    return straight_through(quantised(x.detach(), levels), x)


@hookimpl
def benchmark_component() -> type[Thermometer]:
    """Register the plugin."""
    return Thermometer
