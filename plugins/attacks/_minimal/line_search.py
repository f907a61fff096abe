"""Final line search: from a success straight towards the clean input."""

from __future__ import annotations

import torch
from torch import Tensor

from .._base.active import Active
from .._base.vectors import columns

__all__ = ["line_search"]

HAIR = 1e-4
"""Distance beyond a boundary at which the search aims, as a share of the whole: closer is not worth a pass."""


def line_search(active: Active, x_adv: Tensor, *, at_x: Tensor, at_adv: Tensor, steps: int) -> Tensor:
    """Move the successes `x_adv` (b, *S) towards the clean inputs as far as they stay successes, on the segments.

    The zero of the margin is found by false position in the Illinois form (Dowell & Jarratt, BIT 1971). active: rows
    in a ball without a limit. at_x, at_adv: (b,) signed margins of the clean input, below 0, and of `x_adv`, above.
    steps: forward passes per row at most.
    """
    result, x, at_low, at_high = x_adv, active.ball.x, at_x, at_adv
    at = torch.arange(len(active), device=x.device)
    low, high = torch.zeros_like(at_x), torch.ones_like(at_x)
    side = torch.zeros_like(at_x)  # the end that moved last: -1 the lower, 1 the upper
    for _ in range(steps):
        share = low + (high - low) * (at_low / (at_low - at_high)).nan_to_num(nan=1.0) + HAIR * high
        able, go = active.affordable(), share < high * (1.0 - HAIR)
        active, at, low, high, at_low, at_high, side, share = active.keep(
            go if able is None else go & able, at, low, high, at_low, at_high, side, share
        )
        if len(active) == 0:
            break
        between = active.ball.project(torch.lerp(x[at], x_adv[at], columns(share, x)))
        logits = active.target.logits(between)
        at_share, won = active.margin(logits), active.succeeded(between, logits)
        at_share = torch.where(~won & (at_share > 0), -at_high, at_share)  # refused: halve
        result = result.index_copy(0, at[won], between[won])
        again = torch.where(won, side > 0, side < 0)
        at_low = torch.where(won, torch.where(again, at_low / 2.0, at_low), at_share)
        at_high = torch.where(won, at_share, torch.where(again, at_high / 2.0, at_high))
        low, high = torch.where(won, low, share), torch.where(won, share, high)
        side = torch.where(won, 1.0, -1.0)
    return result
