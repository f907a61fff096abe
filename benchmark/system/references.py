"""Inputs of known labels that an attacker owns, for targeted decision-based attacks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.data import Examples

__all__ = ["OWNED", "References"]

OWNED = 10
"""Most inputs of each label that an attacker owns."""


@dataclass(frozen=True)
class References:
    """The first examples of each label of a training split, read on demand.

    examples: of the whole split. places: (K, OWNED) int64, positions in it; -1 where a label has fewer.
    """

    examples: Examples
    places: Tensor

    @classmethod
    def of(cls, train: Examples, classes: int) -> References:
        """First OWNED examples of each of the labels 0 .. classes - 1, in the order of `train`."""
        if train.y.ndim > 1:  # of examples with several labels none has one
            return cls(train, torch.full((classes, OWNED), -1))
        order = train.y.argsort(stable=True)
        count = torch.bincount(train.y, minlength=classes)[:classes]
        rank = torch.arange(OWNED)
        place = (count.cumsum(0) - count)[:, None] + rank
        if len(order) == 0:
            return cls(train, torch.full((classes, OWNED), -1))
        return cls(train, torch.where(rank < count[:, None], order[place.clamp_max(len(order) - 1)], -1))

    def at(self, labels: Tensor, rank: int) -> tuple[Tensor, Tensor]:
        """The `rank`-th example of each of these labels (B,).

        Returns:
            x (b, *S) on the device of `labels`, and (B,) bool with b true values, the labels that have such an example.
        """
        place = self.places[labels.cpu(), rank]
        have = place >= 0
        return self.examples.x(place[have]).to(labels.device), have.to(labels.device)
