"""Label smoothing: train on softened labels. Szegedy et al., CVPR 2016, arXiv:1512.00567, section 7.

As a defense: Warde-Farley & Goodfellow, "Adversarial perturbations of deep neural networks", 2016.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import torch.nn.functional as F
from torch import Tensor

from benchmark.api import ConfigError, DataSpec, Defense, Examples, SampleRandom, hookimpl


class Variant(Enum):
    """Distribution of the probability mass `alpha`.

    szegedy: the true class has 1 - alpha + alpha / K, the others alpha / K each.
    others: the true class has 1 - alpha, the others alpha / (K - 1) each.
    """

    szegedy = "szegedy"
    others = "others"


@dataclass(frozen=True)
class LabelSmoothing(Defense):
    """Mix the label distributions with the uniform one. alpha: the probability mass that is spread."""

    alpha: float = 0.1
    variant: Variant = Variant.szegedy

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha < 1.0:
            raise ConfigError(f"label_smoothing.alpha is {self.alpha}; expected a mass in [0, 1)")

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """The same examples with soft labels; labels that are already soft are softened further."""
        hard = F.one_hot(train.y, spec.classes).float() if train.soft is None else train.soft
        return replace(train, soft=smoothed(hard, self.alpha, self.variant))


def smoothed(labels: Tensor, alpha: float, variant: Variant) -> Tensor:
    """Label distributions `labels` (N, K) with the mass alpha spread, (N, K); rows still sum to 1."""
    classes = labels.shape[1]
    if variant is Variant.szegedy:
        return (1.0 - alpha) * labels + alpha / classes
    return (1.0 - alpha) * labels + alpha * (1.0 - labels) / (classes - 1)


@hookimpl
def benchmark_component() -> type[LabelSmoothing]:
    """Register the plugin."""
    return LabelSmoothing
