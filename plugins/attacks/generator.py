"""Generator attack: a network, trained once, generates the perturbation in one pass. Bose & Aarabi, MMSP 2018.

arXiv:1805.12302, section III: a generator G is trained against a fixed face detector, and adds G(x) to an input x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import conv2d, layer_norm

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

from .._warp import transformed
from ._ascent.universal import epochs_within
from ._base.losses import margin
from ._base.settings import check_at_least, check_images, check_positive
from ._base.vectors import adam

DILATIONS = (1, 2, 4, 1)
"""Dilations of the 3x3 convolutions; a perturbed pixel depends on the 17x17 pixels around it."""

OFFSET_SCALE = 20.0
"""How much faster the offsets of the classes are learnt than the convolutions."""

ROTATION, ZOOM, SHIFT, CONTRAST, LIGHT = 9.0, 0.1, 0.06, 0.3, 0.1
"""Largest changes of an augmented image: degrees, and shares of its size, its side, its contrast and white."""


@dataclass(frozen=True)
class Generator(PreparedAttack):
    """A convolutional network maps each image to its perturbation, without passes through the system at test time.

    Trained with Adam, with linearly falling steps, on examples of the training split: it maximises the mean adversarial
    margin, clipped at `confidence`, so that no single example dominates. Differences from the paper: the perturbation
    is in the ball by construction (eps tanh under linf, length eps under l2), while the paper adds its l2 norm to the
    loss. The paper's generator suppresses faces alone; here the network is told the label (a bias per label and feature
    map, and an offset per label and pixel), since the attacker knows it and opposite labels need opposite
    perturbations. It has four dilated convolutions, normalised per image, instead of an encoder and a decoder, so that
    images may have any size. Universal perturbations of each class are a special case.

    width: feature maps of a layer. epochs: passes over the examples. batch: examples per step. step_size: Adam's first.
    confidence: margin in logits above which an example no longer contributes. augment: train on mirrored, slightly
    turned, resized, shifted and brightened images; for objects whose mirror image has the same label.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.linf, Norm.l2}), randomized=True)

    width: int = 16
    epochs: int = 100
    batch: int = 20
    step_size: float = 0.003
    confidence: float = 10.0
    augment: bool = False

    def __post_init__(self) -> None:
        check_at_least(1, examples=self.examples, width=self.width, epochs=self.epochs, batch=self.batch)
        check_positive(step_size=self.step_size)
        check_at_least(0, confidence=self.confidence)

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse data other than images."""
        check_images(spec.shape, "generator")

    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> dict[str, Tensor]:
        """`epochs` forward and backward passes per example."""
        weights = initial(tuple(x.shape[1:]), target.classes, self.width, derive_seed("generator", rng.seed))
        weights = {name: value.to(x) for name, value in weights.items()}
        moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in weights.items()}
        epochs, step = epochs_within(target, self.epochs, 1), 0
        steps = epochs * -(-len(x) // self.batch)
        for epoch in range(epochs):
            order = rng.uniform(1, stream="generator/order", draw=epoch).squeeze(1).argsort(stable=True)
            for index in order.split(self.batch):
                rows = rng.rows(index)
                shown = augmented(x[index], rows, draw=epoch) if self.augment else x[index]
                slopes = self._slopes(target.rows(index), threat.around(shown, rows), y[index], weights)
                for name, slope in slopes.items():
                    change, first, second = adam(slope, *moments[name], step)
                    moments[name] = (first, second)
                    weights[name] = weights[name] + self.step_size * (1.0 - step / steps) * change
                step += 1
        return weights

    def _slopes(self, target: Target, ball: Ball, y: Tensor, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gradient of the mean gain in each weight; clipping to the box counts as the identity."""
        leaves = {name: value.detach().requires_grad_(True) for name, value in weights.items()}
        with torch.enable_grad():
            shown = ball.x + perturbation(leaves, ball.x, y, ball)

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
        return ball.project(x + perturbation(weights, padded(x), padded(y), ball)[: len(x)])


def initial(shape: tuple[int, ...], classes: int, width: int, seed: int) -> dict[str, Tensor]:
    """Weights and biases of the layers (He et al., ICCV 2015, arXiv:1502.01852, section 2.2), drawn by `seed`.

    shape: (C, H, W) of an image. The last layer is ten times smaller. `offset` (classes, C, H, W) is added to the last
    feature maps and starts at 0; `label` (classes, layers, width) is added to the others.
    """
    draw = torch.Generator().manual_seed(seed)
    layers = len(DILATIONS)
    sizes = [shape[0], *[width] * (layers - 1), shape[0]]
    weights = {"offset": torch.zeros(classes, *shape)}
    weights["label"] = 0.5 * torch.randn(classes, layers - 1, width, generator=draw)
    for layer in range(layers):
        fan_in = 9 * sizes[layer] * (100 if layer == layers - 1 else 1)
        drawn = torch.randn(sizes[layer + 1], sizes[layer], 3, 3, generator=draw)
        weights[f"weight_{layer}"] = math.sqrt(2.0 / fan_in) * drawn
        weights[f"bias_{layer}"] = torch.zeros(sizes[layer + 1])
    return weights


def perturbation(weights: dict[str, Tensor], x: Tensor, y: Tensor, ball: Ball) -> Tensor:
    """Perturbations of images `x` (B, C, H, W) with labels `y` (B,), at most the radius long in the ball's norm."""
    maps = 2.0 * x - 1.0
    for layer, dilation in enumerate(DILATIONS):
        if layer:
            maps = (layer_norm(maps, maps.shape[1:]) + weights["label"][y, layer - 1, :, None, None]).relu()
        weight, bias = weights[f"weight_{layer}"], weights[f"bias_{layer}"]
        maps = conv2d(maps, weight, bias, padding=dilation, dilation=dilation)
    maps = maps + OFFSET_SCALE * weights["offset"][y]
    if ball.norm is Norm.linf:
        return ball.eps * maps.tanh()
    return ball.eps * maps / rows_norm(maps, ball.norm).clamp_min(1e-12).reshape(-1, 1, 1, 1)


def augmented(x: Tensor, rng: SampleRandom, *, draw: int) -> Tensor:
    """Images (B, C, H, W) in [0, 1], mirrored or not, turned, resized, shifted and with other contrast, by `rng`."""
    drawn = rng.uniform(7, stream="generator/augment", draw=draw, low=-1.0).to(x.dtype)
    x = torch.where(drawn[:, 0].reshape(-1, 1, 1, 1) < 0, x.flip(3), x)
    sides = torch.tensor([float(side) for side in x.shape[2:]], dtype=x.dtype, device=x.device)
    turned = transformed(x, ROTATION * drawn[:, 1], 1.0 + ZOOM * drawn[:, 2], SHIFT * sides * drawn[:, 3:5])
    contrast, light = (drawn[:, k].reshape(-1, 1, 1, 1) for k in (5, 6))
    return ((turned - 0.5) * (1.0 + CONTRAST * contrast) + 0.5 + LIGHT * light).clamp(0.0, 1.0)


@hookimpl
def benchmark_component() -> type[PreparedAttack]:
    """The plugin."""
    return Generator
