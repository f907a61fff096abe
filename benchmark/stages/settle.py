"""Fix the region of each example if it is random or depends on the system."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from benchmark import sampling
from benchmark.errors import DataError
from benchmark.sampling import SampleRandom
from benchmark.system import System, padded, padded_random
from benchmark.tasks.task import DenseTask, Task
from benchmark.threat import RegionKind, Threat
from benchmark.threat.region import Masks, mask_of_pixels, region_mask
from benchmark.threat.table import TableRegion

__all__ = ["salient", "with_fixed_region"]


def with_fixed_region(threat: Threat, system: System, x: Tensor, y: Tensor, rng: SampleRandom) -> Threat:
    """Copy of the threat with the region of each example fixed, if regions differ (random, saliency).

    The rules on the data's features, if any, are included too. Later calls of :meth:`benchmark.threat.Threat.around`
    see the same region, with any `rng` that has the examples' ids.

    Args:
        system: the evaluated system. x: (B, *S). y: (B,) true labels. rng: the cell's randomness of these examples.
    """
    if system.spec.rules is not None:
        if threat.levels is not None:
            raise DataError(
                f"threat.levels is {threat.levels}, but the features of this table have their own rules for values; "
                "leave threat.levels at null"
            )
        threat = dataclasses.replace(threat, table=TableRegion(system.spec.rules))
    if threat.region.kind not in (RegionKind.random, RegionKind.saliency):
        return threat
    drawn = threat.region.kind is RegionKind.random
    mask = region_mask(threat.region, x, rng) if drawn else salient(system, x, y, rng, threat.region.size)
    assert mask is not None
    return dataclasses.replace(threat, masks=Masks.of(rng.ids, mask))


def salient(system: System, x: Tensor, y: Tensor, rng: SampleRandom, size: int) -> Tensor:
    """Saliency region: the `size` pixels where the true label's score has the largest slope, (B, *S) bool.

    The class saliency map of Simonyan, Vedaldi & Zisserman (2014, arXiv:1312.6034, section 3.1): the largest magnitude
    over channels, of the trained model without inference-time defenses, so that a random or rounding defense does not
    blur it.
    Ties go to the first pixels. One forward and one backward pass per example, made by the core and not charged. With
    several sites the scores of their labels are added.

    Args:
        x: (B, *S). y: (B, ...) int64, the true labels.

    Raises:
        DataError: if the model has no gradient, or a zero or non-finite one for an example.
    """
    leaf = padded(x.detach()).requires_grad_(True)
    with torch.enable_grad(), sampling.using(padded_random(rng)):
        logits: Tensor = system.model(leaf)
    slope = torch.zeros_like(leaf)
    if logits.requires_grad:
        score = _true_score(system.spec.task, logits, padded(y)).sum()
        (found,) = torch.autograd.grad(score, leaf, allow_unused=True)
        slope = slope if found is None else found
    height = slope[: len(x)].abs()
    if x.ndim > 2:
        height = height.flatten(2).amax(1)  # over channels
    peak = height.amax(1)
    bad = ~((peak > 0) & torch.isfinite(peak))
    if bool(bad.any()):
        raise DataError(
            f"the score of the true label of example {int(rng.ids[bad][0])} has a zero gradient, and a saliency "
            "region needs the pixels with the largest; choose a model with gradients or another threat.region.kind"
        )
    order = height.sort(stable=True, dim=1, descending=True).indices
    return mask_of_pixels(order[:, :size], x.shape[1:])


def _true_score(task: Task, output: Tensor, y: Tensor) -> Tensor:
    """Scores of the true labels `y`, (B, 1), or (B, S) where an example has several sites."""
    if not isinstance(task, DenseTask):
        return output.gather(1, y[:, None])
    labels = y[..., 0] if y.ndim == 3 else y
    found = task.scores(output).gather(2, labels.clamp_min(0)[..., None]).squeeze(2)
    return torch.where(labels >= 0, found, 0.0)
