"""Multilayer perceptron that is 1-Lipschitz by construction. Prach & Lampert, ECCV 2022, arXiv:2208.03160, section 4.

Every layer has singular values of at most 1, so that the l2 distance to the nearest misclassified input is at least the
margin over sqrt(2) (`certifier=lipschitz` proves slightly more). Differences from the paper: absolute values instead of
MaxMin, and inputs in [0, 1] without normalisation, which would change the constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from benchmark.api import ConfigError, DataSpec, Model, hookimpl

from ._almost_orthogonal import Absolute, AlmostOrthogonalLinear


@dataclass(frozen=True)
class LipschitzMLP(Model):
    """A 1-Lipschitz MLP for inputs of any shape. hidden: units per hidden layer, from input to output."""

    hidden: tuple[int, ...] = (64, 64)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigError(
                f"model.hidden is {list(self.hidden)}; expected the sizes of one or more layers, such as [64]"
            )

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, *S) to (B, K)."""
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise((math.prod(spec.shape), *self.hidden)):
            layers += [AlmostOrthogonalLinear(inputs, outputs), Absolute()]
        return nn.Sequential(*layers, AlmostOrthogonalLinear(self.hidden[-1], spec.classes))


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return LipschitzMLP
