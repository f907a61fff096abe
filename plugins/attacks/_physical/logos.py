"""Logos: pictures that are no example of any class, drawn per row. Starts of rogue signs.

In the place of the logos and advertisements of Sitawarin et al., 2018, arXiv:1802.06430, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import SampleRandom

__all__ = ["logos"]

KINDS = 6
"""Number of shapes: ring, cross, stripes, chequers, two discs, letters made of bars."""


def logos(shape: tuple[int, ...], rng: SampleRandom, *, stream: str) -> Tensor:
    """A shape of one colour on another, with a third for its background, (B, C, H, W) in [0, 1], by `rng` alone."""
    channels, height, width = shape
    kind = rng.integers(KINDS, 1, stream=stream + "/kind")[:, :, None]
    drawn = rng.uniform(4, stream=stream + "/shape")[:, :, None, None]
    colours = rng.uniform(3, channels, stream=stream + "/colours")[..., None, None]
    down = ((torch.arange(height, device=drawn.device) + 0.5) * (2.0 / height) - 1.0)[:, None].expand(height, width)
    right = ((torch.arange(width, device=drawn.device) + 0.5) * (2.0 / width) - 1.0).expand(height, width)
    size, thick, turn, many = drawn[:, 0] * 0.3 + 0.55, drawn[:, 1] * 0.2 + 0.15, drawn[:, 2] * 3.0, drawn[:, 3] * 3 + 2
    u, v = right * turn.cos() + down * turn.sin(), down * turn.cos() - right * turn.sin()
    far = (u.square() + v.square()).sqrt()
    shapes = (
        (far - size).abs() < thick,
        (torch.minimum(u.abs(), v.abs()) < thick) & (far < size + 0.2),
        ((u * many).floor() % 2 == 0) & (v.abs() < size),
        ((u * many).floor() + (v * many).floor()) % 2 == 0,
        torch.minimum((u - 0.35).square(), (u + 0.35).square()) + v.square() < (size * 0.6).square(),
        (v.abs() < size) & (((u * 2.5).abs() % 1.0 < 2 * thick) | (v.abs() < thick)),
    )
    inside = torch.zeros_like(far, dtype=torch.bool)
    for number, one in enumerate(shapes):
        inside = torch.where(kind == number, one, inside)
    plate = torch.maximum(right.abs(), down.abs()) < 0.9
    ground = torch.where(plate, colours[:, 1], colours[:, 2])
    return torch.where(inside[:, None] & plate, colours[:, 0], ground)
