"""First layer of the architectures: shape check and normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.api import DataSpec, Refused


class Normalize(nn.Module):
    """(x - mean) / std, per image channel or feature, as the first layer, so that inputs stay in [0, 1].

    The constants are the dataset's, not weights, and not part of the state dict.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        shape = (-1, *[1] * (len(spec.shape) - 1))
        self.register_buffer("mean", torch.tensor(spec.mean).reshape(shape), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).reshape(shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *S) in [0, 1] to (B, *S)."""
        return (x - self.mean) / self.std


def image_shape(spec: DataSpec, model: str, least: int = 1) -> tuple[int, int, int]:
    """Shape (C, H, W) of a dataset of images.

    Raises:
        Refused: if the examples are not images, or have a side of fewer than `least` pixels.
    """
    if not spec.image:
        raise Refused(
            f"model.{model} takes images (C, H, W), but the dataset's examples have shape {spec.shape}; choose "
            "model=linear or model=mlp"
        )
    channels, height, width = spec.shape
    if min(height, width) < least:
        raise Refused(
            f"model.{model} takes images of at least {least}x{least} pixels, but the dataset's are {height}x{width}; "
            "choose model=linear or model=mlp"
        )
    return channels, height, width
