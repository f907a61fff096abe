"""Fully connected networks of purifiers, for images of any size and rows of features."""

from __future__ import annotations

import itertools

from torch import nn

__all__ = ["perceptron"]


def perceptron(*sizes: int) -> nn.Sequential:
    """Linear layers of the given sizes with leaky ReLUs in between; (B, sizes[0]) to (B, sizes[-1])."""
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.LeakyReLU(0.2)] if number else []
        layers.append(nn.Linear(before, after))
    return nn.Sequential(*layers)
