"""Thermometer encoding. Buckman, Roy, Raffel & Goodfellow, ICLR 2018, section 3; broken by Athalye et al., ICML 2018.

A value x becomes k bits, and bit j is 1 if x > j / k. The network's input is then a step function of x, with trained
step heights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import ConfigError, DataSpec, Defense, clipped, hookimpl, straight_through

from ._transforms.behind import Behind


@dataclass(frozen=True)
class Thermometer(Defense):
    """Encode each value by `levels` bits, and recombine them into one value by trained weights per channel.

    soft: deploy the bits clamp(levels * x - j, 0, 1), which increase linearly without quantisation. They are the
    surrogate for gradients of the hard bits (BPDA, Athalye et al., ICML 2018, section 5.1).
    Difference from the paper: the first layer of the network receives not the separate bits of a value but their
    weighted sum, initialised as the quantised value; so any network can be used, including a pretrained one.
    """

    neutral: ClassVar = {"soft": True}

    levels: int = 16
    soft: bool = False

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ConfigError(f"thermometer.levels is {self.levels}; expected at least 1 bit per value")

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Put the weighting of the bits before the model."""
        return Encoded(model, spec, self.levels)

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the quantisation before the model."""
        return model if self.soft else Behind(model, partial(_stairs, levels=self.levels))

    def smoother(self) -> tuple[Defense, ...]:
        """The soft bits."""
        return () if self.soft else (replace(self, soft=True),)


class Encoded(nn.Module):
    """A model of the weighted bits of its input: hard bits in training, soft ones otherwise.

    weight: (S[0], levels), the step heights per channel or feature. bias: (S[0],).
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
    """`x` (any shape) in [0, 1], rounded up to a multiple of 1 / levels: the share of the thresholds below it."""
    return torch.ceil(x * levels) / levels


def soft_bits(x: Tensor, levels: int) -> Tensor:
    """clamp(levels * x - j, 0, 1) for j = 0 .. levels - 1, (..., levels); the hard bits of quantised values."""
    return clipped(levels * x[..., None] - torch.arange(levels, dtype=x.dtype, device=x.device))


def _stairs(x: Tensor, levels: int) -> Tensor:
    return straight_through(quantised(x.detach(), levels), x)


@hookimpl
def benchmark_component() -> type[Thermometer]:
    """Register the plugin."""
    return Thermometer
