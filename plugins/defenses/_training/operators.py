"""Weights as matrices, and their largest singular values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.api import SampleRandom

__all__ = ["matrices", "spectral_norm"]


def matrices(model: nn.Module) -> list[tuple[nn.Parameter, Tensor]]:
    """Each weight tensor of two or more dimensions, with its matrix (outputs, inputs x kernel)."""
    return [(p, p.flatten(1)) for p in model.parameters() if p.ndim > 1 and p.requires_grad]


def spectral_norm(matrix: Tensor, *, steps: int, seed: int) -> Tensor:
    """Lower estimate of the largest singular value of `matrix` (n, m), with its gradient u v^T.

    Power iteration from a random vector drawn from `seed`: Yoshida & Miyato, 2017, arXiv:1705.10941, algorithm 1.
    """
    held = matrix.detach()
    v = (
        SampleRandom(seed, torch.zeros(1, dtype=torch.int64))
        .normal(held.shape[1], stream="power_iteration")[0]
        .to(held)
    )
    u = held @ v
    for _ in range(steps):
        u = u / u.norm().clamp_min(1e-30)
        v = held.T @ u
        v = v / v.norm().clamp_min(1e-30)
        u = held @ v
    u = u / u.norm().clamp_min(1e-30)
    largest: Tensor = u @ matrix @ v
    return largest
