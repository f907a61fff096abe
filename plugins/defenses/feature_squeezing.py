"""Feature squeezing as a detector. Xu, Evans & Qi, NDSS 2018, arXiv:1704.01155, section 5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import ConfigError, DataSpec, Defense, hookimpl, straight_through

from ._transforms.behind import refuse_other_than_images
from .bit_depth import reduced
from .median_smoothing import median
from .non_local_means import non_local_means


@dataclass(frozen=True)
class FeatureSqueezing(Defense):
    """Detect inputs whose probabilities change when they are squeezed: the largest L1 change over squeezers.

    Fits nothing: only the threshold comes from clean examples (the released code takes it from a list that includes
    attacked ones). Costs one pass, and one per squeezer. Gradients treat rounding as the identity (BPDA).

    bits: depth to which values are rounded, half to even (paper: 1 for MNIST, 5 for CIFAR-10); 0 for no such squeezer.
    window: side of the median filter (paper: 2); 0 for none, as tabular data needs.
    non_local: whether non-local means (search window 13, patch 3, strength 4/255) is a squeezer (paper: for colour).
    """

    detects: ClassVar[bool] = True
    shift_invariant: ClassVar[bool] = True

    bits: int = 1
    window: int = 2
    non_local: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.bits <= 8 or self.window < 0 or self.window == 1:
            raise ConfigError(
                f"feature_squeezing has bits {self.bits} and window {self.window}; expected a depth of 1 to 8 bits and "
                "a median window of 2 or more pixels, or 0 to leave either out"
            )
        if not (self.bits or self.window or self.non_local):
            raise ConfigError("feature_squeezing has no squeezer; set bits, window or non_local")

    def check(self, spec: DataSpec) -> None:
        """Refuse inputs that are not images, or smaller than the window, if a squeezer smooths."""
        if self.window or self.non_local:
            refuse_other_than_images(spec, "defense.feature_squeezing with a window or non_local", self.window or 1)

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Largest L1 change of the probabilities over squeezers, (B,) float32 in [0, 2]."""
        plain = model(x).softmax(1)
        changes = [(plain - model(squeezed).softmax(1)).abs().sum(1) for squeezed in self._squeezed(x)]
        return torch.stack(changes).amax(0)

    def _squeezed(self, x: Tensor) -> list[Tensor]:
        """Squeezed inputs, one tensor (B, *S) per squeezer."""
        found = [straight_through(reduced(x.detach(), self.bits), x)] if self.bits else []
        found += [median(x, self.window)] if self.window else []
        return [*found, *([non_local_means(x, search=13, patch=3, h=4 / 255)] if self.non_local else [])]


@hookimpl
def benchmark_component() -> type[Defense]:
    """Register the plugin."""
    return FeatureSqueezing
