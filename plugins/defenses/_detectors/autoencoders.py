"""Small autoencoders of examples in [0, 1], with and without a bottleneck."""

from __future__ import annotations

import math

from torch import Tensor, nn

from benchmark.api import DataSpec

__all__ = ["autoencoder"]


def autoencoder(spec: DataSpec, width: int, *, narrow: bool) -> nn.Module:
    """Map (B, *S) to (B, *S) in [0, 1]: convolutions for images, a perceptron of `width` units for other examples.

    narrow: whether there is a bottleneck: half the image's sides, or `width` instead of 2 * `width` units.
    """
    if not spec.image:
        size, units = math.prod(spec.shape), width if narrow else 2 * width
        middle = [nn.Linear(size, units), nn.ReLU(), nn.Linear(units, size), nn.Sigmoid()]
        return nn.Sequential(nn.Flatten(), *middle, nn.Unflatten(1, spec.shape))
    channels, height, breadth = spec.shape
    halved = narrow and min(height, breadth) > 1
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        *([_Halved()] if halved else []),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        *([nn.Upsample((height, breadth), mode="nearest")] if halved else []),
        nn.Conv2d(width, channels, 3, padding=1),
        nn.Sigmoid(),
    )


class _Halved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """Means of 2x2 cells; an odd last row or column is averaged separately."""
        halved: Tensor = nn.functional.avg_pool2d(x, 2, ceil_mode=True)
        return halved
