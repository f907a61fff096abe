"""Examples that an attack has not broken yet, as far as it can tell."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import DenseTask, Target

__all__ = ["REFUSED", "holds", "reached"]

REFUSED = -1
"""Label of an input that a detector refuses, as `Target.labels` gives it."""


def holds(target: Target, labels: Tensor, y: Tensor) -> Tensor:
    """True where the answers `labels` (b, ...) of :meth:`Target.labels` are the label `y` (b, ...), (b,) bool.

    Of examples with several sites: where there is no error that the threat's goal is about.
    """
    task = target.task
    return ~task.wrong(labels, y) if isinstance(task, DenseTask) else labels == y


def reached(target: Target, x_adv: Tensor, y: Tensor, asked: Tensor, *, targeted: bool) -> Tensor:
    """Success of the candidates `x_adv` (b, *S) by the system's answers, (b,) bool; False where it is not queried.

    Rows where `asked` (b,) bool is true and the budget suffices are queried, at `target.votes` passes each.
    """
    left = target.tuned(draws=1).remaining()
    at = (asked if left is None else asked & (left >= target.votes)).nonzero().squeeze(1)
    won = torch.zeros_like(asked)
    if len(at):
        labels = target.rows(at).answers(x_adv[at])
        won[at] = (labels == y[at]) if targeted else (labels != y[at]) & (labels >= 0)
    return won
