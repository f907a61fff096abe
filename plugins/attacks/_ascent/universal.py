"""Labels, batches and epochs of attacks that prepare one perturbation for all examples."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import Target, Threat

__all__ = ["batches", "cross_entropy", "epochs_within", "goals"]


def goals(target: Target, threat: Threat) -> list[int | None]:
    """Goals to prepare for: each label that may have to be reached, or None for any wrong label."""
    return list(range(target.classes)) if threat.targeted else [None]


def batches(y: Tensor, goal: int | None, size: int) -> tuple[Tensor, ...]:
    """Positions of the examples whose label `y` (N,) is not the goal already, in batches (b,) of `size`, in order."""
    index = torch.arange(len(y), device=y.device)
    if goal is not None:
        index = index[y != goal]
    return index.split(size) if len(index) else ()


def epochs_within(target: Target, epochs: int, goals: int) -> int:
    """Number of epochs that the query budget allows for so many goals, `epochs` at most."""
    left = target.remaining()
    return epochs if left is None else min(epochs, int(left.min()) // goals)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy (B,): minus the log-probability of `y` (B,). Unlike the log-odds it saturates at certainty."""
    return (logits - logits.gather(1, y[:, None])).logsumexp(1)  # no constant in the logits costs digits
