"""Wald's sequential probability ratio test of a share. Wald, Annals of Mathematical Statistics 16, 1945.

As used by Wang et al., "Adversarial sample detection for deep neural network through model mutation testing", ICSE
2019, arXiv:1812.05793, section 4: is the share of mutants that change the label above that of normal inputs?
Difference from the released code: a mutant counts before the test, and the test is made after every mutant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Hypotheses", "Tested", "sequential_test"]


@dataclass(frozen=True)
class Hypotheses:
    """Share at most `low`, against share at least `high`; error: of either kind."""

    low: float
    high: float
    error: float

    @classmethod
    def around(cls, normal: float, *, factor: float, margin: float, error: float) -> Hypotheses:
        """factor * normal, and to either side of it the share `margin` of that (paper: 1.2 and 0.1)."""
        centre = factor * normal
        return cls(centre * (1.0 - margin), min(centre * (1.0 + margin), 1.0 - 1e-6), error)

    @property
    def bound(self) -> float:
        """The log-likelihood ratio beyond which the test stops, in either direction: log((1 - error) / error)."""
        return math.log((1.0 - self.error) / self.error)

    @property
    def changed(self) -> float:
        """The log-likelihood ratio of one changed label."""
        return math.log(self.high / self.low)

    @property
    def kept(self) -> float:
        """The log-likelihood ratio of one label that stays, which is negative."""
        return math.log1p(-self.high) - math.log1p(-self.low)


@dataclass(frozen=True)
class Tested:
    """Per example: changes and mutants used, (B,) int64; ratio, (B,) float64, the log-likelihood ratio at the end.

    decided: (B,) bool, whether the ratio left the bounds before the mutants ran out.
    """

    changes: Tensor
    used: Tensor
    ratio: Tensor
    decided: Tensor

    @property
    def share(self) -> Tensor:
        """Changed labels among the mutants that were used, (B,) float32."""
        return self.changes.float() / self.used.clamp_min(1)


def sequential_test(
    count: int,
    mutants: int,
    hypotheses: Hypotheses | None,
    changed: Callable[[int, Tensor], Tensor],
    device: torch.device,
) -> Tested:
    """Ask one mutant after the other about the examples that are not decided yet.

    Args:
        count: B. mutants: the most that are used. hypotheses: None to use all mutants on every example.
        changed: from the number of a mutant and (b,) int64 examples to (b,) bool, whether the label is another one.
    """
    changes = torch.zeros(count, dtype=torch.int64, device=device)
    used, active = torch.zeros_like(changes), torch.arange(count, device=device)
    ratio = torch.zeros(count, dtype=torch.float64, device=device)
    for mutant in range(mutants):
        changes[active] += changed(mutant, active).long()
        used[active] += 1
        if hypotheses is None:
            continue
        ratio = changes * hypotheses.changed + (used - changes) * hypotheses.kept
        active = (ratio.abs() < hypotheses.bound).nonzero().squeeze(1)
        if len(active) == 0:
            break
    decided = torch.zeros_like(ratio, dtype=torch.bool) if hypotheses is None else ratio.abs() >= hypotheses.bound
    return Tested(changes, used, ratio, decided)
