"""Losses towards one class in place of the label, and the choice of the classes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .losses import margin, other_logits, over_spread

if TYPE_CHECKING:
    from .active import Active

__all__ = ["dlr_to_rival", "logit_difference", "margin_to_rival", "next_rivals", "rival_logits", "top_rivals"]


def top_rivals(logits: Tensor, y: Tensor, count: int) -> Tensor:
    """Classes other than `y` (B,) with the highest logits, (B, C) int64 with C = min(count, K - 1), highest first."""
    return other_logits(logits, y).topk(min(count, logits.shape[1] - 1), dim=1).indices


def rival_logits(logits: Tensor, rows: Active) -> Tensor:
    """Logits (b, K) with those of classes other than label and rival at minus infinity, in rows that have a rival."""
    if rows.rival is rows.y:
        return logits
    kept = (rows.rival == rows.y)[:, None].expand_as(logits).clone()
    return logits.masked_fill(
        ~kept.scatter_(1, rows.y[:, None], True).scatter_(1, rows.rival[:, None], True), -torch.inf
    )


def logit_difference(logits: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    """Logit difference z_rival - z_y, (B,)."""
    return (logits.gather(1, rival[:, None]) - logits.gather(1, y[:, None])).squeeze(1)


def dlr_to_rival(logits: Tensor, y: Tensor, rival: Tensor) -> Tensor:
    """Logit difference to `rival` (B,) :func:`.losses.over_spread` of the four largest logits, (B,)."""
    return over_spread(logit_difference(logits, y, rival), logits, 4)


def next_rivals(rows: Active, won: Tensor, logits: Tensor, gradient: Tensor) -> Active:
    """Rows with the classes to reach in the next step: after a success any class.

    Where the `gradient` (b, *S) is zero after a success, as it is where the runner-up has the slopes of the label (twin
    classes), it is the class of the last success from then on. won: (b,) bool, success now, with `logits` (b, K).
    """
    if rows.targeted:
        return rows
    apart = rows.reached != rows.y
    flat = ~won & apart & ~gradient.flatten(1).any(1)
    if not bool((won | flat).any()):
        return rows
    reached = torch.where(won, logits.argmax(1), rows.reached)
    again = torch.where((rows.rival != rows.y) & apart, reached, rows.y)
    rival = torch.where(won, again, torch.where(flat, rows.reached, rows.rival))
    return dataclasses.replace(rows, rival=rows.y if torch.equal(rival, rows.y) else rival, reached=reached)


def margin_to_rival(logits: Tensor, rows: Active) -> Tensor:
    """Logit difference to each row's rival, (b,); the signed margin where any class will do."""
    any_class = margin(logits, rows.y, targeted=rows.targeted)
    if rows.rival is rows.y:
        return any_class
    return torch.where(rows.rival == rows.y, any_class, logit_difference(logits, rows.y, rows.rival))
