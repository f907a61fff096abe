"""Multilayer perceptron with ReLU. Rumelhart, Hinton & Williams, Nature 323, 1986; Glorot et al., AISTATS 2011.

The default on MNIST is 784-32-10.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from benchmark.api import ConfigError, DataSpec, Model, hookimpl

from ._normalize import Normalize


@dataclass(frozen=True)
class MLP(Model):
    """Fully connected layers, for inputs of any shape.

    hidden: units per hidden layer, from input to output.
    """

    hidden: tuple[int, ...] = (32,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigError(
                f"model.hidden is {list(self.hidden)}; expected the sizes of one or more layers, such as [32]"
            )

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, *S) to (B, K)."""
        layers: list[nn.Module] = [Normalize(spec), nn.Flatten()]
        for inputs, outputs in pairwise((math.prod(spec.shape), *self.hidden)):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(self.hidden[-1], spec.classes))


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return MLP
