"""Nearest class mean of the digits: a linear classifier in closed form. Fisher, Annals of Eugenics 7(2), 1936.

W_k = 2 mu_k and b_k = -||mu_k||^2, so that the largest logit is that of the nearest mean. The exact distance of every
input to its nearest misclassified point is known under every norm (benchmark.oracles.linear), and attacks can be
measured against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from benchmark.api import DataSpec, Model, Refused, hookimpl


@dataclass(frozen=True)
class NearestClassMean(Model):
    """Takes the embedded digits. The means are those of rows 0 to 1296, which are its train and its select split."""

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, *S) to (B, 10)."""
        if (math.prod(spec.shape), spec.classes) != (64, 10):
            raise Refused(
                f"model.nearest_class_mean classifies the embedded digits, 64 values in 10 classes, and the examples "
                f"have shape {spec.shape} in {spec.classes}; choose dataset=digits, or model=linear"
            )
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor]:
        """The closed form."""
        from benchmark.oracles.linear import nearest_class_mean

        problem = nearest_class_mean("digits")
        return {"1.weight": problem.weight.float(), "1.bias": problem.bias.float()}


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return NearestClassMean
