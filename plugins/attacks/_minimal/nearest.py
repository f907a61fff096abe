"""The nearest success of each example, as searches for the smallest perturbation keep it."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import Norm, rows_norm

from .._base.active import Active
from .._base.best import Best
from .line_search import line_search

__all__ = ["SETTLED", "Patience", "finish", "keep_nearest"]

SETTLED = 1e-2
"""Share of its distance by which a success has to come nearer for the search to go on."""


def keep_nearest(best: Best, active: Active, x_adv: Tensor, logits: Tensor) -> Tensor:
    """Offer the successes among `x_adv` (b, *S), the nearest first; (b,) bool, success."""
    won, ahead = active.succeeded(x_adv, logits), active.margin(logits)
    size = rows_norm(x_adv - active.ball.x, active.ball.norm)
    clean = (size == 0) & best.clean_margin[active.index].isnan()
    best.clean_margin[active.index[clean]] = ahead[clean].to(best.margin.dtype)
    best.offer(active.index, x_adv, won, torch.where(won, -size, -torch.inf), ahead)
    return won


class Patience:
    """Early stopping where the clean input succeeds, or no success came nearer in the share `patience` of the steps."""

    def __init__(self, patience: float, steps: int, best: Best) -> None:
        self._every = max(round(patience * steps / 2.0), 1) if patience < 1.0 else 0
        self._before = self._earlier = torch.full_like(best.value, torch.inf)

    def going(self, step: int, active: Active, best: Best) -> Tensor | None:
        """Rows to go on with after that step, (b,) bool; None for all."""
        far = -best.value[active.index]
        going = far > 0 if step == 0 else None
        if self._every and step % self._every == 0:
            nearer = torch.isinf(far) | (far <= (1.0 - SETTLED) * self._earlier[active.index])
            going = nearer if going is None else going & nearer
            self._earlier, self._before = self._before, self._before.index_copy(0, active.index, far)
        return going


def finish(active: Active, best: Best, *, search_steps: int) -> Tensor:
    """Nearest successes (B, *S) of all examples after the line search of `search_steps` passes (not under l0)."""
    found = (best.clean_margin < 0) & (best.margin > 0) & best.won
    if search_steps == 0 or active.ball.norm is Norm.l0 or not bool(found.any()):
        return best.x_adv
    (rows,) = active.keep(found)
    at = rows.index
    nearer = line_search(rows, best.x_adv[at], at_x=best.clean_margin[at], at_adv=best.margin[at], steps=search_steps)
    return best.x_adv.index_copy(0, at, nearer)
