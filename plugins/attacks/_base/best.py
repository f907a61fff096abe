"""The best candidate of each example."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Best"]


class Best:
    """Per example the best candidate so far: a success before a failure, then the higher value.

    x_adv: (B, *S), the start until something is better. won: (B,) bool, success. value: (B,), minus infinity at first;
    attacks that search for the smallest perturbation take minus the distance. margin, clean_margin: (B,), signed
    margins of `x_adv` and of the clean input where they were offered, else NaN.
    """

    def __init__(self, x: Tensor, *, dtype: torch.dtype | None = None) -> None:
        self.x_adv = x
        self.won = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.value = torch.full((len(x),), -torch.inf, dtype=dtype or x.dtype, device=x.device)
        self.margin, self.clean_margin = torch.full((2, len(x)), torch.nan, dtype=x.dtype, device=x.device)

    def offer(self, index: Tensor, x_adv: Tensor, won: Tensor, value: Tensor, margin: Tensor | None = None) -> Tensor:
        """Take over the candidates `x_adv` (b, *S) that are better, at most one per example; (b,) bool, which."""
        value = value.to(self.value.dtype)
        better = torch.where(won == self.won[index], value > self.value[index], won)
        rows = index[better]
        self.x_adv = self.x_adv.index_copy(0, rows, x_adv[better])
        self.won[rows], self.value[rows] = won[better], value[better]
        if margin is not None:
            self.margin[rows] = margin[better].to(self.margin.dtype)
        return better
