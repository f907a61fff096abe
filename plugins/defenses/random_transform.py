"""Random viewing conditions of a camera. Athalye et al., ICML 2018, arXiv:1707.07397, section 3.1.

The setting of EOT over transformations. In each pass an example is rotated, scaled, shifted, brightened or darkened and
overlaid with noise. Since the system is then random, every attack averages its gradients over `threat.eot` draws, and
the verdict is computed under draws that no attack has used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark import sampling
from benchmark.api import ConfigError, DataSpec, Defense, Refused, added, clipped, hookimpl

from .._warp import transformed
from ._transforms.behind import refuse_other_than_images


@dataclass(frozen=True)
class RandomTransform(Defense):
    """Draw rotation, scale, shift, brightness and noise per example and pass, uniformly.

    Rotation and scale are around the image's centre, with bilinear interpolation; beyond its edge the edge is repeated.
    Difference from the paper: the image moves over its repeated edges, not over another background.

    rotation: largest angle in either direction, in degrees. smallest, largest: range of the scale; 1 is none.
    translation: largest shift in each direction, as a share of the side. brightness: largest shift of all values.
    noise: standard deviation. Both in units of the [0, 1] input range, to which the result is clipped.
    votes: number of draws in the majority vote.
    """

    randomized = True

    rotation: float = 22.5
    smallest: float = 0.9
    largest: float = 1.4
    translation: float = 0.1
    brightness: float = 0.05
    noise: float = 0.05
    votes: int = added(1)

    def __post_init__(self) -> None:
        for name in ("rotation", "translation", "brightness", "noise"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"random_transform.{name} is {getattr(self, name)}; expected at least 0")
        if self.votes < 1:
            raise ConfigError(f"random_transform.votes is {self.votes}; expected at least 1")
        if not 0 < self.smallest <= self.largest:
            raise ConfigError(
                f"random_transform draws scales from {self.smallest} to {self.largest}; expected 0 < smallest <= "
                "largest, with 1 for the original size"
            )

    def check(self, spec: DataSpec) -> None:
        """Refuse data other than images."""
        refuse_other_than_images(spec, "defense.random_transform")

    def protect(self, model: nn.Module) -> nn.Module:
        """Put the random transformation before the model."""
        return _Viewed(model, self)


class _Viewed(nn.Module):
    def __init__(self, model: nn.Module, ranges: RandomTransform) -> None:
        super().__init__()
        self.model, self.ranges = model, ranges

    def forward(self, x: Tensor) -> Tensor:
        ranges, rng = self.ranges, sampling.ambient()
        if x.ndim != 4:
            raise Refused(
                f"defense.random_transform needs images of shape (C, H, W), but one input has {tuple(x.shape[1:])}"
            )
        drawn = rng.uniform(4, stream="random_transform", low=-1.0, high=1.0).to(x.dtype)
        middle, half = (ranges.largest + ranges.smallest) / 2.0, (ranges.largest - ranges.smallest) / 2.0
        scale = middle + half * rng.uniform(1, stream="random_transform/scale", low=-1.0).to(x.dtype).squeeze(1)
        shift = drawn[:, 1:3] * ranges.translation * torch.tensor(x.shape[2:], device=x.device)
        seen = transformed(x, drawn[:, 0] * ranges.rotation, scale, shift)
        seen = seen + ranges.brightness * drawn[:, 3].reshape(-1, 1, 1, 1)
        seen = seen + ranges.noise * rng.normal(*x.shape[1:], stream="random_transform/noise").to(x.dtype)
        logits: Tensor = self.model(clipped(seen))
        return logits


@hookimpl
def benchmark_component() -> type[RandomTransform]:
    """Register the plugin."""
    return RandomTransform
