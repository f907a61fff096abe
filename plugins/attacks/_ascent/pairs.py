"""Several rows per example: one for each class to reach, or for each proposal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.api import PASS_ROWS

from .._base.active import Active, Loss
from .._base.best import Best

__all__ = ["affordable", "gradient", "logits", "offer", "pairs"]

FORWARD_ROWS = 2
"""Rows of a forward pass, as a multiple of those of a pass with a gradient, which keeps what every layer computes."""

PASS_VALUES = 2**14
"""Input values that a pass may have even if all examples together have fewer: a pass over few values costs as much."""


def pairs(active: Active, rivals: Tensor | None) -> Active:
    """One row for each class in `rivals` (B, C) of each active example, those of one example side by side."""
    if rivals is None:
        return active
    rows = active.rows(torch.arange(len(active), device=active.y.device).repeat_interleave(rivals.shape[1]))
    return dataclasses.replace(rows, rival=rivals[active.index].flatten())


def _rank(index: Tensor) -> Tensor:
    """Number of earlier rows of the same example, (b,) int64; `index` (b,) does not fall."""
    places = torch.arange(len(index), device=index.device)
    first = torch.ones_like(index, dtype=torch.bool)
    first[1:] = index[1:] != index[:-1]
    return places - torch.where(first, places, 0).cummax(0).values


def affordable(active: Active) -> Tensor | None:
    """Rows for which the query budget allows a pass after those of the rows before, (b,) bool; None: no limit."""
    left = active.target.remaining()
    return None if left is None else left > _rank(active.index)


def gradient(active: Active, x_adv: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """:meth:`Active.gradient`, in passes of as many rows as there are examples; a value that is NaN ranks last."""
    passes = _passes(active, x_adv, 1)
    if len(passes) == 1:
        slope, value, scores = active.gradient(x_adv, loss)
    else:
        found = [active.rows(at).gradient(x_adv[at], loss) for at in passes]
        slope, value, scores = map(torch.cat, zip(*found, strict=True))
    return slope, value.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf), scores


def logits(active: Active, x_adv: Tensor) -> Tensor:
    """Scores (b, K), one forward pass per row, in passes of a bounded number of rows."""
    passes = _passes(active, x_adv, FORWARD_ROWS)
    if len(passes) == 1:
        return active.target.logits(x_adv)
    return torch.cat([active.target.rows(at).logits(x_adv[at]) for at in passes])


def _passes(active: Active, x_adv: Tensor, times: int) -> Sequence[Tensor]:
    """Rows of each pass. A random system draws by the passes before: there it is one."""
    examples = len(active.target.ledger.forwards)
    most = times * max(examples, 2 * PASS_ROWS, PASS_VALUES // max(x_adv[:1].numel(), 1))
    rows = torch.arange(len(active), device=active.y.device)
    return rows.split(most) if active.target.certain else [rows]


def offer(best: Best, index: Tensor, x_adv: Tensor, won: Tensor, value: Tensor) -> Tensor:
    """Offer the best candidate of each example in `index` (b,), of equals the first; (n,) int64, those improved."""
    value = value.to(best.value.dtype)
    at = torch.where(won == best.won[index], value > best.value[index], won).nonzero().squeeze(1)
    rows = index[at]
    if bool((rows[1:] == rows[:-1]).any()):
        order = value[at].argsort(descending=True, stable=True)
        order = order[won[at][order].argsort(descending=True, stable=True)]
        at = at[order]
        at = at[index[at].argsort(stable=True)]
        at = at[_rank(index[at]) == 0]
        rows = index[at]
    if len(at):
        best.offer(rows, x_adv[at], won[at], value[at])
    return rows
