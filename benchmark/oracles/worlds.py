"""Small systems to measure attacks on: linear, twin classes, ReLU, leaky, smooth and convolutional networks.

Weights and inputs come from fixed seeds. Linear worlds have the exact distance to the nearest misclassified input of
the box in every norm, small ReLU worlds in linf and l1; for the others only the best known distance is available.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmark.data import DataSpec
from benchmark.oracles.linear import LinearClassifier, exact_distance
from benchmark.oracles.relu import SOLVED, ReLUNet
from benchmark.sampling import derive_seed
from benchmark.threat import Norm

__all__ = ["LINEAR", "WORLDS", "AttackWorld", "attack_world"]

LINEAR = ("dot", "pair", "thin", "small", "plain", "grey", "colour", "twins", "faint", "loud", "louder")
"""Worlds with a linear classifier; twins has classes of equal weights; faint to louder scale scores by 1e-8 to 1e8."""

WORLDS = (*LINEAR, "relu", "relu3", "leaky", "tanh", "silu", "conv4", "conv", "conv28")
"""All worlds by name."""

_SHAPES: dict[str, tuple[tuple[int, ...], int]] = {
    "dot": ((1,), 2),
    "pair": ((2,), 2),
    "thin": ((7,), 3),
    "small": ((1, 4, 4), 3),
    "plain": ((1, 8, 8), 10),
    "grey": ((1, 28, 28), 10),
    "colour": ((3, 32, 32), 10),
    "twins": ((1, 8, 8), 6),
    "faint": ((1, 8, 8), 10),
    "loud": ((1, 8, 8), 10),
    "louder": ((1, 8, 8), 10),
    "relu": ((6,), 2),
    "relu3": ((12,), 3),
    "leaky": ((1, 8, 8), 10),
    "tanh": ((1, 8, 8), 10),
    "silu": ((1, 8, 8), 10),
    "conv4": ((1, 4, 4), 3),
    "conv": ((1, 8, 8), 10),
    "conv28": ((1, 28, 28), 10),
}
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky": partial(nn.LeakyReLU, 0.1),
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
}
_SCALES = {"faint": 1e-8, "loud": 1e4, "louder": 1e8}


@dataclass(frozen=True)
class AttackWorld:
    """A classifier with inputs x (N, *S) that it labels y (N,), float32 in [0, 1]."""

    name: str
    model: nn.Module
    x: Tensor
    y: Tensor
    spec: DataSpec

    def exact(self, norm: Norm) -> Tensor | None:
        """Exact distance of each input to its nearest misclassified point of the box, (N,) float64; None if unknown."""
        if isinstance(self.model, LinearClassifier):
            # The weights of a linear world are those of its scale 1: distances do not depend on the scale.
            scale = _SCALES.get(self.name, 1.0)
            weight, bias = self.model.weight.detach().double() / scale, self.model.bias.detach().double() / scale
            return exact_distance(weight, bias, self.x.flatten(1), self.y, norm)
        if self.name in ("relu", "relu3") and norm in SOLVED:
            net = ReLUNet.of(self.model, self.spec.shape)
            return net.distance(self.x.flatten(1).double(), self.y, norm)
        return None


def attack_world(name: str, count: int = 12) -> AttackWorld:
    """World of that name, with `count` inputs.

    Raises:
        KeyError: if there is none.
    """
    shape, classes = _SHAPES[name]
    draw = torch.Generator().manual_seed(derive_seed("benchmark.oracles.worlds", *shape, classes))
    model = _model(name, shape, classes, draw).requires_grad_(False)
    x = 0.1 + 0.8 * torch.rand(count, *shape, generator=draw)
    x[0].clamp_(0.2, 0.4)
    return AttackWorld(name, model, x, model(x).argmax(1), DataSpec(shape, classes))


def _model(name: str, shape: tuple[int, ...], classes: int, draw: torch.Generator) -> nn.Module:
    size = math.prod(shape)
    if name in LINEAR:
        weight = torch.randn(classes, size, generator=draw) / math.sqrt(size)
        bias = 0.1 * torch.randn(classes, generator=draw)
        bias = bias - weight.sum(1) / 2.0  # balanced in the middle of the box
        if name == "twins":  # classes 3 to 5 have the slopes of 0 to 2, and never win
            weight, bias = weight[:3].repeat(2, 1), torch.cat([bias[:3], bias[:3] - 1e-4])
        scale = _SCALES.get(name, 1.0)
        return LinearClassifier(scale * weight, scale * bias)
    if name.startswith("conv"):
        side = shape[1] // 4
        layers: list[nn.Module] = [
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 12, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(12 * side * side, classes),
        ]  # fmt: skip
    else:
        act = _ACTIVATIONS.get(name, nn.ReLU)
        width = 16 if name.startswith("relu") else 32
        layers = [nn.Flatten(), nn.Linear(size, width), act()]
        if name != "relu":
            layers += [nn.Linear(width, width), act()]
        layers.append(nn.Linear(width, classes))
    model = nn.Sequential(*layers)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            gain = math.sqrt(2.0 / parameter[0].numel())
            parameter.data = gain * torch.randn(parameter.shape, generator=draw)
        else:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=draw)
    return model
