"""Rules for the features of a table, as part of the allowed set: whole numbers, categories, monotone features."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.data import FeatureRules

__all__ = ["TableRegion"]


@dataclass(frozen=True)
class TableRegion:
    """Rules of a dataset (:class:`benchmark.data.FeatureRules`), applied to rows of D features."""

    rules: FeatureRules

    @functools.cached_property
    def movable(self) -> Tensor:
        """Features that may change, (1, D) bool."""
        return ~torch.tensor(self.rules.fixed)[None]

    def bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest allowed value of each feature of `x` (B, D), (B, D) each; `x` lies between them."""
        rules = self.rules
        low = torch.minimum(x, torch.tensor(rules.low).to(x))
        high = torch.maximum(x, torch.tensor(rules.high).to(x))
        stays, up, down = (torch.tensor(flags, device=x.device) for flags in (rules.fixed, rules.rising, rules.falling))
        return torch.where(stays | up, x, low), torch.where(stays | down, x, high)

    def nearest(self, x_adv: Tensor, x: Tensor, *, towards: bool = False) -> Tensor:
        """`x_adv` (B, D) made valid: clipped to its bounds, whole numbers rounded, each category one-hot.

        A category becomes the feature with the largest value; ties keep that of `x`. With `towards`, numbers are
        rounded towards `x` and categories keep their value: no feature is then further from `x` than in `x_adv`.
        """
        low, high = self.bounds(x)
        given = torch.minimum(torch.maximum(x_adv, low), high)
        found = given
        if any(self.rules.values):
            steps = (torch.tensor(self.rules.values, device=x.device) - 1).clamp_min(1)
            place, own = given.double() * steps, (x.double() * steps).round()
            inner = torch.where(place > own, (place + 1e-6).floor(), (place - 1e-6).ceil())
            whole = inner if towards else place.round()
            value = whole.float().to(x.dtype) / steps
            out = (value < low) | (value > high)
            value = torch.where(out, inner.float().to(x.dtype) / steps, value)
            counted = torch.tensor(self.rules.values, device=x.device) > 0
            found = torch.where(counted & (given != x), value, given)
        for group in self.rules.groups:
            columns = list(group)
            asked, own = found[:, columns], x[:, columns]
            best, held = asked.max(1), (asked * own).sum(1)
            other = torch.nn.functional.one_hot(best.indices, len(columns)).to(x.dtype)
            moves = (best.values > held) & (not towards)
            found = found.index_copy(1, torch.tensor(columns, device=x.device), torch.where(moves[:, None], other, own))
        return found

    def broken(self, x_adv: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of `x_adv` (B, D) out of bounds, and rows with a value that a feature cannot have, (B,) bool each."""
        low, high = self.bounds(x)
        outside = ((x_adv < low) | (x_adv > high)).any(1)
        within = torch.minimum(torch.maximum(x_adv, low), high)
        return outside, (self.nearest(within, x) != within).any(1)
