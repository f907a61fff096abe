"""Outcomes that no attack produced: consistent arrays, drawn at random or written by hand."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.records.outcomes import Outcomes


def made_outcomes(
    clean_correct: Tensor,
    *,
    valid: Tensor | None = None,
    distance: Tensor | None = None,
    eps: float = 0.1,
    forwards: Tensor | None = None,
    clean_top5: Tensor | None = None,
    robust_top5: Tensor | None = None,
    confidence: Tensor | None = None,
) -> Outcomes:
    """Outcomes whose parts agree; `distance` (N,) is what the attack found on each example, infinite for nothing."""
    n = len(clean_correct)
    valid = torch.ones(n, dtype=torch.bool) if valid is None else valid | ~clean_correct
    distance = torch.full((n,), torch.inf) if distance is None else distance.float()
    adversarial = clean_correct & valid & distance.isfinite()
    distance = torch.where(adversarial, distance, torch.inf)
    passes = torch.zeros(n, dtype=torch.int64) if forwards is None else forwards * clean_correct
    labels = torch.arange(n) % 10
    broken = adversarial & (distance <= eps)
    return Outcomes(
        ids=torch.arange(n) + 1000,
        y=labels,
        clean_label=torch.where(clean_correct, labels, (labels + 1) % 10),
        adv_label=torch.where(broken | ~clean_correct, (labels + 1) % 10, labels),
        clean_correct=clean_correct,
        clean_top5=clean_correct.clone() if clean_top5 is None else clean_top5,
        attacked=clean_correct.clone(),
        valid=valid,
        adversarial=adversarial,
        broken=broken,
        robust_top5=clean_correct & ~broken if robust_top5 is None else robust_top5,
        l0=(distance * 100).round(),
        l1=distance * 8,
        l2=distance * 2,
        linf=distance,
        excess=torch.zeros(n),
        forwards=passes,
        backwards=passes // 2,
        zero_gradient=torch.zeros(n, dtype=torch.bool),
        bad_gradient=torch.zeros(n, dtype=torch.bool),
        certified=torch.zeros(n),
        confidence=confidence,
    )


def random_outcomes(n: int, seed: int) -> Outcomes:
    """Outcomes with every kind of row: wrong, invalid, broken, found outside eps, not found."""
    draw = torch.Generator().manual_seed(seed)
    far = torch.rand(n, generator=draw) < 0.2
    distance = torch.where(far, torch.inf, torch.rand(n, generator=draw) * 0.2)
    return made_outcomes(
        torch.rand(n, generator=draw) < 0.9,
        valid=torch.rand(n, generator=draw) < 0.95,
        distance=distance,
        forwards=torch.randint(1, 200, (n,), generator=draw),
    )


def part(outcomes: Outcomes, begin: int, end: int) -> Outcomes:
    """The rows from `begin` up to `end`."""
    return Outcomes(**{name: value[begin:end] for name, value in outcomes.tensors().items()})
