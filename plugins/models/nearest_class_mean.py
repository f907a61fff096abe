"""Nearest class mean of the digits: a linear classifier in closed form. Fisher, Annals of Eugenics 7(2), 1936.

W_k = 2 mu_k and b_k = -||mu_k||^2, so that the largest logit is that of the nearest mean. The exact distance of every
input to its nearest misclassified point is known under every norm (benchmark.oracles.linear), as a reference for
attacks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from benchmark.api import DataSpec, Model, Refused, hookimpl


@dataclass(frozen=True)
class NearestClassMean(Model):
    """Linear classifier of the embedded digits; the means are those of rows 0 to 1296, the train and select splits."""

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, *S) to (B, 10)."""
        if (math.prod(spec.shape), spec.classes) != (64, 10):
            raise Refused(
                f"model.nearest_class_mean classifies the embedded digits, 64 values in 10 classes, but the examples "
                f"have shape {spec.shape} in {spec.classes}; choose dataset=digits, or model=linear"
            )
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor]:
        """The weights in closed form."""
        from benchmark.oracles.linear import nearest_class_mean

        problem = nearest_class_mean("digits")
        return {"1.weight": problem.weight.float(), "1.bias": problem.bias.float()}


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return NearestClassMean
