"""What attacks share that make one thing for all examples: for which labels, from which batches, how often."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import Target, Threat

__all__ = ["batches", "cross_entropy", "epochs_within", "goals"]


def goals(target: Target, threat: Threat) -> list[int | None]:
    """What something is made for: each label that may be one to reach, or None for any wrong one."""
    return list(range(target.classes)) if threat.targeted else [None]


def batches(y: Tensor, goal: int | None, size: int) -> tuple[Tensor, ...]:
    """Positions (b,) each: the examples whose label `y` (N,) is not the goal already, `size` at a time, in order."""
    index = torch.arange(len(y), device=y.device)
    if goal is not None:
        index = index[y != goal]
    return index.split(size) if len(index) else ()


def epochs_within(target: Target, epochs: int, goals: int) -> int:
    """How often each example can be asked about for each of some goals, `epochs` at most."""
    left = target.remaining()
    return epochs if left is None else min(epochs, int(left.min()) // goals)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """(B,): minus the log-probability of `y` (B,). Unlike the log-odds it tells which examples matter to a mean."""
    return (logits - logits.gather(1, y[:, None])).logsumexp(1)  # no constant in the logits costs digits
