"""Thresholds of detectors, calibrated on clean examples of the select split."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor, nn

from benchmark import registry
from benchmark.config.system_spec import SystemSpec
from benchmark.data import DataSpec, Examples
from benchmark.errors import Refused
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.system import Detector, System

__all__ = ["DETECTOR_FALSE_POSITIVES", "calibrate", "calibrated", "spread", "too_few"]

DETECTOR_FALSE_POSITIVES = 0.05
"""False positive rate of a calibrated detector."""


def calibrate(parts: SystemSpec, spec: DataSpec, model: nn.Module, select: Examples) -> dict[str, list[float]]:
    """Threshold of each detector at an expected false positive rate of at most 5 %, and the spread of its scores.

    The scores are those of the clean select examples on the deployed system, by the same passes as at inference.
    """
    thresholds = {}
    for defense in parts.defenses:
        if not defense.detects:
            continue
        if not len(select):
            raise Refused(
                f"defense.{registry.name_of(defense)[1]} takes its threshold from clean examples of the select split, "
                f"but that of dataset.{registry.name_of(parts.dataset)[1]} is empty; add examples to it, or leave the "
                f"defense out"
            )
        system = System(model, spec, parts.defenses, [Detector(defense, 0.0, 1.0)])
        rng = SampleRandom(derive_seed(parts.seed, "calibrate"), select.ids)
        chunks = torch.arange(len(select)).split(256)
        scores = torch.cat([system.suspicion(select.x(at), rng.rows(at)) for at in chunks]).double()
        threshold = calibrated(scores, DETECTOR_FALSE_POSITIVES)
        thresholds[registry.name_of(defense)[1]] = [threshold, spread(scores)]
    return thresholds


def spread(scores: Tensor) -> float:
    """Standard deviation of the finite scores among (N,) float64, in whatever unit; 1 where they do not vary."""
    finite = scores[scores.isfinite()]
    deviation = float(finite.std()) if len(finite) > 1 else 0.0
    return deviation if deviation > torch.finfo(torch.float32).tiny else 1.0


def too_few(count: int) -> str | None:
    """Warning about a select split too small for the false positive rate; None if it is large enough."""
    if (count + 1) * DETECTOR_FALSE_POSITIVES >= 1:
        return None
    return (
        f"a detector's threshold comes from {count} clean select examples, of which the largest score was taken; it "
        f"takes {math.ceil(1 / DETECTOR_FALSE_POSITIVES) - 1} to keep false positives to {DETECTOR_FALSE_POSITIVES:.0%}"
    )


def calibrated(scores: Tensor, false_positives: float) -> float:
    """Threshold for scores (N,) of clean examples: the k-th smallest, k = ceil((N + 1) (1 - false_positives)).

    A new clean score exceeds it with probability at most `false_positives`, for any distribution; the fraction of new
    scores above it is Beta(N + 1 - k, k) if no scores are equal. With fewer than 1 / false_positives - 1 examples no
    threshold guarantees that, and it is the largest score.
    """
    k = math.ceil((len(scores) + 1) * (1 - Fraction(str(false_positives))))
    return float(scores.sort().values[min(k, len(scores)) - 1])
