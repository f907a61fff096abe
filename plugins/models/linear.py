"""Linear classifier: multinomial logistic regression. Cox, Journal of the Royal Statistical Society B 20(2), 1958."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from benchmark.api import DataSpec, Model, hookimpl

from ._normalize import Normalize


@dataclass(frozen=True)
class Linear(Model):
    """logits = W (x - mean) / std + b, for inputs of any shape."""

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, *S) to (B, K)."""
        return nn.Sequential(Normalize(spec), nn.Flatten(), nn.Linear(math.prod(spec.shape), spec.classes))


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return Linear
