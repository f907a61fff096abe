"""Boosted trees, bounded by the boxes of their leaves. Chen et al., NeurIPS 2019, arXiv:1906.03849, section 3.

Within a radius each tree can return only the leaves whose box is that near. The sum over trees of the worst leaf is a
bound (the paper's, with cliques of one tree); for one tree per class it is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from benchmark.api import Certifier, Norm, Refused, SampleRandom, Supports, Threat, hookimpl

if TYPE_CHECKING:
    from benchmark.api import System

    from ..models.boosted_trees import Trees

HALVINGS = 30
ROUNDING = 1e-6
"""Smallest difference of scores that counts, and relative reduction of a radius."""


@dataclass(frozen=True)
class TreeBoxes(Certifier):
    """Certificate for `model=boosted_trees` without a defense at inference, in every norm."""

    supports: ClassVar[Supports] = Supports()

    def certify(self, system: System, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Radius up to which the worst leaves leave every other score below that of `y`, (B,) float32.

        Raises:
            Refused: if the deployed module is not that of boosted trees, or its outputs differ from theirs.
        """
        trees = _trees(system)
        return torch.cat([_radii(trees, row, y[at : at + 1], threat.norm) for at, row in enumerate(x.split(1))])


def _trees(system: System) -> Trees:
    from ..models.boosted_trees import Trees

    module = system.protected
    if type(module) is not Trees or system.detectors:
        raise Refused(
            "certifier.tree reads the leaves of model.boosted_trees, but the deployed module is "
            f"{type(module).__name__}; "
            "choose that model without a defense at inference, or another certifier"
        )
    draw = torch.Generator().manual_seed(0)
    points = torch.rand(64, int(module.feature.max()) + 1, generator=draw).to(module.value.device)
    said = system.logits(points, SampleRandom(0, torch.arange(64, device=points.device)))
    inside = torch.stack([_leaf_distance(module, point, Norm.linf).argmin(1) for point in points])
    values = module.value[torch.arange(len(module.value), device=points.device), inside]  # (64, T)
    total = values.reshape(64, -1, module.per_round).sum(1) + module.start
    theirs = said if module.per_round > 1 else said[:, 1:]
    if not torch.allclose(total.float(), theirs, rtol=1e-4, atol=1e-4):
        raise Refused(
            "certifier.tree: the system's scores are not the sums of its leaves; choose one without a defense"
        )
    return module


def _leaf_distance(trees: Trees, x: Tensor, norm: Norm) -> Tensor:
    """Distance from `x` (D,) to the box of each leaf, (T, leaves), infinite where the box is outside [0, 1]."""
    depth, count = trees.depth, trees.value.shape[1]
    leaf = torch.arange(count, device=x.device)
    feature, far = [], []
    for level in range(depth):
        node = 2**level - 1 + (leaf >> (depth - level))
        right = (leaf >> (depth - level - 1)) & 1 == 1
        split, threshold = trees.feature[:, node], trees.threshold[:, node].double()
        at = x.double()[split]
        short = torch.where(right, threshold - at, at - threshold).clamp_min(0.0)
        outside = torch.where(right, threshold >= 1.0, threshold < 0.0)
        stays = torch.where(right, at > threshold, at <= threshold)
        far.append(torch.where(outside & ~stays, torch.inf, torch.where(stays, 0.0, short.clamp_min(1e-12))))
        feature.append(split)
    return _together(torch.stack(feature), torch.stack(far), norm)


def _together(feature: Tensor, far: Tensor, norm: Norm) -> Tensor:
    """Norm over features of the largest movement of each, (T, leaves); `feature`, `far` are (depth, T, leaves)."""
    if norm is Norm.linf:
        return far.amax(0)
    kept = torch.zeros_like(far)
    for level in range(len(far)):
        same = feature == feature[level]
        first = ~same[:level].any(0)
        kept[level] = torch.where(first, torch.where(same, far, 0.0).amax(0), 0.0)
    if norm is Norm.l0:
        return torch.where(kept.isinf().any(0), torch.inf, (kept > 0).sum(0).double())
    return kept.sum(0) if norm is Norm.l1 else kept.square().sum(0).sqrt()


def _radii(trees: Trees, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """Radius for one example, by bisection, (1,) float32; the bound decreases with the radius."""
    distance, size = _leaf_distance(trees, x.flatten(), norm), float(x.numel())
    low, high = -1.0, 1.0 if norm is Norm.linf else size
    if not _holds(trees, distance, int(y), 0.0):
        return torch.zeros(1, device=x.device)
    if _holds(trees, distance, int(y), high):
        return torch.full((1,), high, device=x.device)
    low = 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _holds(trees, distance, int(y), middle) else (low, middle)
    radius = float(int(low)) if norm is Norm.l0 else low * (1.0 - ROUNDING)
    return torch.full((1,), radius, device=x.device)


def _holds(trees: Trees, distance: Tensor, y: int, radius: float) -> bool:
    """True if no other class can have a score as high, each tree at its worst leaf within `radius`."""
    near = distance <= radius
    least = torch.where(near, trees.value, torch.inf).amin(1).reshape(-1, trees.per_round).sum(0) + trees.start
    most = torch.where(near, trees.value, -torch.inf).amax(1).reshape(-1, trees.per_round).sum(0) + trees.start
    if trees.per_round == 1:
        return bool((least if y == 1 else -most) > ROUNDING * (1.0 + most.abs().maximum(least.abs())))
    others = torch.cat([most[:y], most[y + 1 :]])
    return bool(least[y] - others.amax() > ROUNDING * (1.0 + least.abs().amax() + most.abs().amax()))


@hookimpl
def benchmark_component() -> type[Certifier]:
    """Register the plugin."""
    return TreeBoxes
