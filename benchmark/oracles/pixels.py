"""Pixelwise linear classifier, and the smallest perturbation that breaks a segmentation of given tolerance.

The scores of a pixel depend on its own channels alone, so each pixel has the exact distance of a linear classifier
(:func:`benchmark.oracles.linear.exact_distance`), independently of the others. An example is broken as soon as the
tolerated number of wrong pixels is exceeded; the cheapest are those that are wrong already, then those with the
smallest
distances: the total is their maximum under linf, the root of their sum of squares under l2, their sum under l1 and l0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.oracles.linear import exact_distance
from benchmark.tasks.segmentation import Segmentation
from benchmark.threat import Norm

__all__ = ["exact_segmentation_distance", "pixel_distances"]


def pixel_distances(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """Distance of each pixel to misclassification in the box, (N, S) float64; 0 if wrong, NaN if void.

    Args:
        weight: (K, C) and bias: (K,) float64, shared by all pixels. x: (N, C, H, W). y: (N, S) int64, -1 for void.
    """
    channels = x.shape[1]
    flat = x.double().flatten(2).transpose(1, 2).reshape(-1, channels)
    label = y.flatten().clamp_min(0)
    found = exact_distance(weight, bias, flat, label, norm)
    wrong = (flat @ weight.T + bias).argmax(1) != label
    return torch.where(y.flatten() < 0, torch.nan, torch.where(wrong, 0.0, found)).reshape(y.shape)


def exact_segmentation_distance(
    weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, norm: Norm, task: Segmentation
) -> Tensor:
    """Distance of each example to its nearest input that is wrong under the task, (N,) float64; see the module."""
    each = pixel_distances(weight, bias, x, y, norm).nan_to_num(nan=torch.inf)
    counted = (y >= 0).sum(1)
    fall = counted - task.needed(y) + 1  # so many wrong pixels break it
    order = each.sort(dim=1).values
    chosen = torch.arange(each.shape[1]) < fall[:, None]
    if norm is Norm.linf:
        return torch.where(chosen, order, 0.0).amax(1)
    if norm is Norm.l2:
        return torch.where(chosen, order, 0.0).square().sum(1).sqrt()
    return torch.where(chosen, order, 0.0).sum(1)
