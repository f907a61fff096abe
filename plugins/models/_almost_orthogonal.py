"""Layers that are 1-Lipschitz in the l2 norm by construction. Prach & Lampert, ECCV 2022, arXiv:2208.03160.

A map W with its columns divided by sqrt(sum_j abs(W^T W)_ij) has no singular value above 1 for any W (theorem 1).
For a convolution the sums are over channels and offsets of the kernel's correlation with itself (theorem 3).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Absolute", "AlmostOrthogonalConv2d", "AlmostOrthogonalLinear", "Halve"]

LEAST = 1e-12


class AlmostOrthogonalLinear(nn.Module):
    """x -> W D x + b. weight: (outputs, inputs), initialised orthogonally."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(outputs, inputs)))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs) to (B, outputs)."""
        size = (self.weight.T @ self.weight).abs().sum(1)
        return F.linear(x, self.weight * size.clamp_min(LEAST).rsqrt(), self.bias)


class AlmostOrthogonalConv2d(nn.Module):
    """Same-size convolution with zero padding. weight: (outputs, inputs, kernel, kernel), kernel odd.

    Initialised with an orthogonal map of channels at the kernel's centre.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        start = torch.zeros(outputs, inputs, kernel, kernel)
        start[:, :, kernel // 2, kernel // 2] = nn.init.orthogonal_(torch.empty(outputs, inputs))
        self.weight = nn.Parameter(start + torch.randn_like(start) * 0.1 / math.sqrt(inputs * kernel**2))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def scaled(self) -> Tensor:
        """The rescaled weight used in the forward pass."""
        channels = self.weight.transpose(0, 1)  # (inputs, outputs, kernel, kernel)
        size = F.conv2d(channels, channels, padding=self.kernel - 1).abs().sum((1, 2, 3))
        return self.weight * size.clamp_min(LEAST).rsqrt().reshape(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        return F.conv2d(x, self.scaled(), self.bias, padding=self.kernel // 2)


class Absolute(nn.Module):
    """Absolute value, which preserves gradient norms.

    Up to orthogonal maps it equals the paper's MaxMin (Anil, Lucas & Grosse, ICML 2019, arXiv:1811.05381, section 4).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map elementwise; any shape."""
        return x.abs()


class Halve(nn.Module):
    """Rearrange each 2x2 block of pixels into four channels; a last odd row or column is dropped."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, 4 C, H // 2, W // 2)."""
        height, width = 2 * (x.shape[2] // 2), 2 * (x.shape[3] // 2)
        return F.pixel_unshuffle(x[:, :, :height, :width], 2)
