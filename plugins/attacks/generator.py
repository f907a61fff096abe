"""Generator attack: a network, trained once, generates the perturbation in one pass. Bose & Aarabi, MMSP 2018.

arXiv:1805.12302, section III: a generator G is trained against a fixed face detector, and adds G(x) to an input x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from benchmark.api import (
    Ball,
    DataSpec,
    Norm,
    PreparedAttack,
    SampleRandom,
    Supports,
    Target,
    Threat,
    derive_seed,
    hookimpl,
    padded,
    rows_norm,
)

from ._ascent.universal import epochs_within
from ._base.losses import margin
from ._base.settings import check_at_least, check_images, check_positive
from ._base.vectors import adam

DILATIONS = (1, 2, 4, 1)
"""Dilations of the 3x3 convolutions; a perturbed pixel depends on the 17x17 pixels around it."""


@dataclass(frozen=True)
class Generator(PreparedAttack):
    """A convolutional network maps each image to its perturbation, without passes through the system at test time.

    Trained with Adam on examples of the training split: it maximises the mean adversarial margin, clipped at
    `confidence`, so that no single example dominates. Differences from the paper: the perturbation is in the ball by
    construction (eps tanh under linf, length eps under l2), while the paper adds its l2 norm to the loss; the network
    has four dilated convolutions and an offset for each pixel instead of an encoder and a decoder, so that images may
    have any size, and universal perturbations are a special case.

    width: feature maps of a layer. epochs: passes over the examples. batch: examples per step. step_size: Adam's.
    confidence: margin in logits above which an example no longer contributes.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2}), randomized=True)

    width: int = 16
    epochs: int = 100
    batch: int = 20
    step_size: float = 0.03
    confidence: float = 2.0

    def __post_init__(self) -> None:
        check_at_least(1, examples=self.examples, width=self.width, epochs=self.epochs, batch=self.batch)
        check_positive(step_size=self.step_size)
        check_at_least(0, confidence=self.confidence)

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse data other than images."""
        check_images(spec.shape, "generator")

    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> dict[str, Tensor]:
        """`epochs` forward and backward passes per example."""
        weights = initial(tuple(x.shape[1:]), self.width, derive_seed("generator", rng.seed))
        weights = {name: value.to(x) for name, value in weights.items()}
        moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in weights.items()}
        ball, step = threat.around(x, rng), 0
        for epoch in range(epochs_within(target, self.epochs, 1)):
            order = rng.uniform(1, stream="generator/order", draw=epoch).squeeze(1).argsort(stable=True)
            for index in order.split(self.batch):
                slopes = self._slopes(target.rows(index), ball.rows(index), y[index], weights)
                for name, slope in slopes.items():
                    change, first, second = adam(slope, *moments[name], step)
                    moments[name] = (first, second)
                    weights[name] = weights[name] + self.step_size * change
                step += 1
        return weights

    def _slopes(self, target: Target, ball: Ball, y: Tensor, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gradient of the mean gain in each weight; clipping to the box counts as the identity."""
        leaves = {name: value.detach().requires_grad_(True) for name, value in weights.items()}
        with torch.enable_grad():
            shown = ball.x + perturbation(leaves, ball.x, ball)

        def gain(logits: Tensor) -> Tensor:
            return margin(logits, y, targeted=False).clamp_max(self.confidence)

        gradient, _, _ = target.gradient(ball.project(shown.detach()), gain)
        if ball.mask is not None:
            gradient = gradient.where(ball.mask, 0.0)
        gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0) / len(y)
        return dict(zip(leaves, torch.autograd.grad(shown, tuple(leaves.values()), gradient), strict=True))

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Images plus the network's output, in ball, box and region. No pass through the system."""
        ball = threat.around(x, rng)
        weights = {name: value.to(x.dtype) for name, value in target.prepared.items()}
        return ball.project(x + perturbation(weights, padded(x), ball)[: len(x)])


def initial(shape: tuple[int, ...], width: int, seed: int) -> dict[str, Tensor]:
    """Weights and biases of the layers (He et al., ICCV 2015, arXiv:1502.01852, section 2.2), drawn by `seed`.

    shape: (C, H, W) of an image. `offset`, of that shape, is added to the last feature maps and starts at 0.
    """
    draw = torch.Generator().manual_seed(seed)
    sizes = [shape[0], *[width] * (len(DILATIONS) - 1), shape[0]]
    weights = {"offset": torch.zeros(shape)}
    for layer in range(len(DILATIONS)):
        fan_in = 9 * sizes[layer]
        drawn = torch.randn(sizes[layer + 1], sizes[layer], 3, 3, generator=draw)
        weights[f"weight_{layer}"] = math.sqrt(2.0 / fan_in) * drawn
        weights[f"bias_{layer}"] = torch.zeros(sizes[layer + 1])
    return weights


def perturbation(weights: dict[str, Tensor], x: Tensor, ball: Ball) -> Tensor:
    """Perturbations of images `x` (B, C, H, W), of at most the ball's radius in its norm, (B, C, H, W)."""
    maps = 2.0 * x - 1.0
    for layer, dilation in enumerate(DILATIONS):
        maps = maps.relu() if layer else maps
        weight, bias = weights[f"weight_{layer}"], weights[f"bias_{layer}"]
        maps = conv2d(maps, weight, bias, padding=dilation, dilation=dilation)
    maps = maps + weights["offset"]
    if ball.norm is Norm.linf:
        return ball.eps * maps.tanh()
    return ball.eps * maps / rows_norm(maps, ball.norm).clamp_min(1e-12).reshape(-1, 1, 1, 1)


@hookimpl
def benchmark_component() -> type[PreparedAttack]:
    """The plugin."""
    return Generator
