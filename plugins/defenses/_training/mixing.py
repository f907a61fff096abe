"""Mixtures of the rows of a batch: partners, mixing weights and mixed labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy import special
from torch import Tensor

from benchmark.api import Batch, Examples, SampleRandom

__all__ = ["beta", "chosen", "labelled_softly", "mixed", "partners"]


def labelled_softly(train: Examples, classes: int) -> Examples:
    """The same examples with labels as distributions (N, K), as mixing requires."""
    return train if train.soft is not None else replace(train, soft=F.one_hot(train.y, classes).float())


def partners(rng: SampleRandom, *, stream: str) -> Tensor:
    """Random permutation of the rows, (B,) int64."""
    order: Tensor = rng.uniform(stream=stream + "/partners").argsort(stable=True)
    return order


def chosen(rng: SampleRandom, share: float, *, stream: str) -> Tensor:
    """Rows drawn without replacement, (round(share B),) int64."""
    return partners(rng, stream=stream)[: round(share * len(rng))]


def beta(rng: SampleRandom, alpha: float, *, stream: str) -> Tensor:
    """Draws from Beta(alpha, alpha), by the inverse distribution function, (B,) float32."""
    uniform = rng.uniform(stream=stream + "/beta")
    drawn = special.betaincinv(alpha, alpha, uniform.cpu().numpy().astype(np.float64))
    return torch.from_numpy(drawn).to(uniform)


def mixed(batch: Batch, x: Tensor, partner: Tensor, kept: Tensor) -> Batch:
    """Batch of mixed inputs `x` (B, *S) and soft labels: `kept` (B,) of a row's own plus the rest of its partner's."""
    assert batch.soft is not None
    share = kept.to(batch.soft)[:, None]
    return replace(batch, x=x, soft=share * batch.soft + (1.0 - share) * batch.soft[partner])
