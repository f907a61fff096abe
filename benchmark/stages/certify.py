"""certify: lower bounds per example, from certifier plugins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark import registry
from benchmark.api import Certifier
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.threat import Threat

__all__ = ["certify", "certify_rows"]


def certify(
    certifiers: Sequence[Certifier],
    system: System,
    x: Tensor,
    y: Tensor,
    correct: Tensor,
    *,
    threat: Threat,
    rng: SampleRandom,
) -> Tensor:
    """Largest certified radius of each example that is correct on the clean input, else 0, (B,) float32.

    A non-finite radius proves nothing and counts as 0.
    """
    best = torch.zeros(len(x), device=x.device)
    for place, certifier in enumerate(certifiers):
        with registry.calling(certifier):
            radius = certifier.certify(system, x, y, threat=threat, rng=rng.child(place))
        best = torch.maximum(best, radius.float().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp_min(0.0))
    return torch.where(correct, best, torch.zeros_like(best))


def certify_rows(
    certifiers: Sequence[Certifier], system: System, x: Tensor, y: Tensor, correct: Tensor, *, rng: SampleRandom
) -> Tensor | None:
    """Largest certified number of training rows of each example, (B,) int64; 0 where the prediction is wrong already.

    None if no certifier proves anything about training rows.
    """
    best: Tensor | None = None
    for place, certifier in enumerate(certifiers):
        with registry.calling(certifier):
            rows = certifier.certify_rows(system, x, y, rng=rng.child(place))
        if rows is not None:
            best = rows if best is None else torch.maximum(best, rows)
    return None if best is None else torch.where(correct, best.clamp_min(0), torch.zeros_like(best))
