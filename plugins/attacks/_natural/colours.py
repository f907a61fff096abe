"""Hue, saturation, value, brightness and contrast: pixel by pixel, but for the mean that contrast is scaled about."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["brightened", "contrasted", "from_hsv", "saturated", "to_hsv"]


def to_hsv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in [0, 6), saturation and value in [0, 1], (B, H, W) each, of colours `x` (B, 3, H, W) in [0, 1].

    The hexagonal cone of Smith, SIGGRAPH 1978: red is hue 0, green 2, blue 4; greys have saturation 0 and hue 0.
    """
    red, green, blue = x.unbind(1)
    value = x.amax(1)
    chroma = value - x.amin(1)
    one = torch.ones_like(chroma)
    part = torch.where(chroma > 0, chroma, one)
    hue = torch.where(value == green, (blue - red) / part + 2.0, (red - green) / part + 4.0)
    hue = torch.where(value == red, ((green - blue) / part) % 6.0, hue)
    saturation = chroma / torch.where(value > 0, value, one)
    return torch.where(chroma > 0, hue, 0.0), saturation, value


def from_hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Colours again, (B, 3, H, W); the hue may be any number and goes round in 6."""
    channels = []
    for offset in (5.0, 3.0, 1.0):
        place = (hue + offset) % 6.0
        channels.append(value - value * saturation * torch.minimum(place, 4.0 - place).clamp(0.0, 1.0))
    return torch.stack(channels, 1)


def brightened(x: Tensor, shift: Tensor) -> Tensor:
    """(B, C, H, W): `shift` (B,) added to the value in HSV, hue and saturation unchanged; in grey, to each pixel."""
    columns = shift.reshape(-1, 1, 1)
    if x.shape[1] != 3:
        return x + columns[:, None]
    hue, saturation, value = to_hsv(x)
    return from_hsv(hue, saturation, (value + columns).clamp(0.0, 1.0))


def contrasted(x: Tensor, factor: Tensor) -> Tensor:
    """(B, C, H, W): the distance of each value from the mean of its channel times `factor` (B,); 1 changes nothing."""
    mean = x.flatten(2).double().mean(2).to(x.dtype)[:, :, None, None]
    return x + (factor.reshape(-1, 1, 1, 1) - 1.0) * (x - mean)


def saturated(x: Tensor, factor: float, shift: float) -> Tensor:
    """Colours (B, 3, H, W) whose saturation in HSV is multiplied by `factor`, and `shift` added, within [0, 1]."""
    hue, saturation, value = to_hsv(x)
    return from_hsv(hue, (saturation * factor + shift).clamp(0.0, 1.0), value)
