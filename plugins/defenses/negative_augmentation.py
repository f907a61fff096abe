"""Training on negatives. Hosseini, Xiao, Jaiswal & Poovendran, ICMLA 2017, arXiv:1703.06857, section 4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from benchmark.api import ConfigError, DataSpec, Defense, Examples, SampleRandom, hookimpl

from ._training.mixing import chosen


@dataclass(frozen=True)
class NegativeAugmentation(Defense):
    """Add the negatives 1 - x of a share of the training examples, with their labels.

    From scratch, or by fine-tuning with `system.init_from`: the paper's two curves over the number of negatives.

    share: share of the training examples whose negatives are added; 0 adds none, 1 doubles the training set.
    """

    neutral: ClassVar[Mapping[str, Any]] = {"share": 0.0}

    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ConfigError(f"negative_augmentation.share is {self.share}; expected a share between 0 and 1")

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """The originals, then the negatives; a negative's id is -(id + 1) - 2**60, which no other example has."""
        if self.share == 0.0:
            return train
        who = chosen(rng, self.share, stream="negative_augmentation")
        ids = torch.cat([train.ids, -(train.ids[who].abs() + 1) - 2**60])
        soft = None if train.soft is None else torch.cat([train.soft, train.soft[who]])
        return Examples(ids, torch.cat([train.y, train.y[who]]), _Negated(train, who), soft)


@dataclass(frozen=True)
class _Negated:
    """Dataset of the originals, followed by the negatives of the examples at `who`."""

    train: Examples
    who: Tensor

    def __call__(self, positions: Tensor) -> Tensor:
        count = len(self.train)
        negative = positions >= count
        at = torch.where(negative, self.who[(positions - count).clamp_min(0)], positions)
        x = self.train.x(at)
        return torch.where(negative.reshape(-1, *([1] * (x.ndim - 1))), 1.0 - x, x)


@hookimpl
def benchmark_component() -> type[NegativeAugmentation]:
    """Register the plugin."""
    return NegativeAugmentation
