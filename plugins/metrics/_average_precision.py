"""Average precision over images, as in COCO's evaluation: greedy matching, 101 recalls, precision envelope."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmark.tasks.boxes import contained, overlaps

__all__ = ["OVERLAPS", "Matches", "average_precision", "matched"]

OVERLAPS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
RECALLS = torch.from_numpy(np.linspace(0.0, 1.0, 101))
"""Both as COCO's program computes them, since a recall of 7 of 10 lies on a threshold: torch rounds ten others."""


@dataclass(frozen=True)
class Matches:
    """Detections of all images, and whether each is matched to an object.

    score, label, image: (D,). hit: (T, D) bool, for each threshold of OVERLAPS. counts: (T, D) bool, False for a
    detection that is matched to a crowd alone. objects: (N, K), number per image and class.
    """

    score: Tensor
    label: Tensor
    image: Tensor
    hit: Tensor
    counts: Tensor
    objects: Tensor


def matched(found: Tensor, truth: Tensor, classes: int) -> Matches:
    """Match detections (N, S, 6) [class, score, box] to objects (N, S, 5) [class, box], per class.

    In descending order of score, each detection is matched to the unmatched object of largest overlap. Class 0 is the
    background, -1 - c a crowd of class c, which any number of detections may match, by the fraction of their area.
    """
    image, place = (found[..., 0] > 0).nonzero(as_tuple=True)
    order = found[image, place, 1].argsort(descending=True, stable=True)
    order = order[image[order].argsort(stable=True)]  # by image, then by score
    image, place = image[order], place[order]
    detections = found[image, place]
    label = detections[:, 0].long()
    hit = torch.zeros(len(OVERLAPS), len(image), dtype=torch.bool)
    counts = torch.ones_like(hit)
    for number, at in _by_image(image):
        boxes = truth[number][truth[number][:, 0] > 0].double()
        share = overlaps(detections[None, at, 2:].double(), boxes[None, :, 1:])[0]
        same = label[at, None] == boxes[:, 0].long()
        for row, least in enumerate(OVERLAPS):
            hit[row, at] = _greedy(share.masked_fill(~same, -1.0), least)
        crowds = truth[number][truth[number][:, 0] < 0].unique(dim=0).double()
        among = contained(crowds[None, :, 1:], detections[None, at, 2:].double())[0].T
        among = among.masked_fill(label[at, None] != -1 - crowds[:, 0].long(), -1.0)
        for row, least in enumerate(OVERLAPS if len(crowds) else ()):
            counts[row, at] = hit[row, at] | (among < least).all(1)
    objects = torch.zeros(len(truth), classes, dtype=torch.float64)
    objects.scatter_add_(1, truth[..., 0].long().clamp_min(0), (truth[..., 0] > 0).double())
    return Matches(detections[:, 1].double(), label, image, hit, counts, objects)


def _by_image(image: Tensor) -> list[tuple[int, Tensor]]:
    """Positions of the detections of each image with detections; `image` (D,) is in ascending order."""
    numbers, counts = image.unique_consecutive(return_counts=True)
    return list(zip(numbers.tolist(), torch.arange(len(image)).split(counts.tolist()), strict=True))


def _greedy(share: Tensor, least: float) -> Tensor:
    """True for detections (rows, in descending order of score) matched to an object (column), (n,) bool."""
    free = torch.ones(share.shape[1], dtype=torch.bool)
    taken = torch.zeros(len(share), dtype=torch.bool)
    for row, values in enumerate(share):
        usable = torch.where(free, values, -1.0)
        if len(usable) and float(usable.max()) >= least:
            best = len(usable) - 1 - int(usable.flip(0).argmax())  # of equals the last, as COCO's program
            free[best], taken[row] = False, True
    return taken


def average_precision(of: Matches, weights: Tensor) -> Tensor:
    """Average precision per resample, overlap and class, (R, T, K); NaN for class 0 and classes without objects.

    weights: (R, N), the weight of each image.
    """
    classes = of.objects.shape[1]
    result = torch.full((len(weights), len(OVERLAPS), classes), torch.nan, dtype=torch.float64)
    totals = weights @ of.objects
    for label in range(1, classes):
        at = (of.label == label).nonzero().squeeze(1)
        at = at[of.score[at].argsort(descending=True, stable=True)]
        weight = weights[:, of.image[at]]
        for row in range(len(OVERLAPS)):
            right = (weight * of.hit[row, at]).cumsum(1)
            every = (weight * of.counts[row, at]).cumsum(1)
            value = _area(right, every, totals[:, label])
            result[:, row, label] = torch.where(totals[:, label] > 0, value, torch.nan)
    return result


def _area(right: Tensor, every: Tensor, objects: Tensor) -> Tensor:
    """Mean over RECALLS of the highest precision at that recall or above, (R,)."""
    if not right.shape[1]:
        return torch.zeros(len(right), dtype=torch.float64)
    precision = right / every.clamp_min(torch.finfo(torch.float64).eps)
    envelope = precision.flip(1).cummax(1).values.flip(1)
    recall = right / objects.clamp_min(1.0)[:, None]
    place = torch.searchsorted(recall.contiguous(), RECALLS.expand(len(right), -1).contiguous())
    padded = torch.cat([envelope, torch.zeros(len(right), 1, dtype=torch.float64)], 1)
    return padded.gather(1, place).mean(1)
