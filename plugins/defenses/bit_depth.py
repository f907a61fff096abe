"""Bit-depth reduction. Xu, Evans & Qi, "Feature squeezing", NDSS 2018, arXiv:1704.01155, section 3.1."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import EVERY_TASK, ConfigError, Defense, hookimpl, straight_through

from ._transforms.behind import Behind


@dataclass(frozen=True)
class BitDepth(Defense):
    """Round each value to one of 2**bits levels, halves to even.

    bits: 1 to 8. The surrogate for gradients is the identity (BPDA, Athalye et al., ICML 2018, section 4.1).
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK

    bits: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise ConfigError(f"bit_depth.bits is {self.bits}; expected 1 to 8")

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the rounding before the model."""
        return Behind(model, partial(_rounded, bits=self.bits))


def reduced(x: Tensor, bits: int) -> Tensor:
    """`x` (any shape) in [0, 1], rounded to multiples of 1 / (2**bits - 1)."""
    levels = 2**bits - 1
    rounded: Tensor = torch.round(x * levels) / levels
    return rounded


def _rounded(x: Tensor, bits: int) -> Tensor:
    return straight_through(reduced(x.detach(), bits), x)


@hookimpl
def benchmark_component() -> type[BitDepth]:
    """Register the plugin."""
    return BitDepth
