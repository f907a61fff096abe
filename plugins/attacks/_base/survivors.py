"""Examples that an attack has not broken yet, as far as it can tell."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import DenseTask, Target

from .budget import rank

__all__ = ["REFUSED", "holds", "reached"]

REFUSED = -1
"""Label of an input that a detector refuses, as `Target.labels` gives it."""


def holds(target: Target, labels: Tensor, y: Tensor) -> Tensor:
    """True where the answers `labels` (b, ...) of :meth:`Target.labels` are the label `y` (b, ...), (b,) bool.

    Of examples with several sites: where there is no error that the threat's goal is about.
    """
    task = target.task
    return ~task.wrong(labels, y) if isinstance(task, DenseTask) else labels == y


def reached(
    target: Target, x_adv: Tensor, y: Tensor, asked: Tensor, *, targeted: bool, index: Tensor | None = None
) -> Tensor:
    """Success of the candidates `x_adv` (b, *S) by the system's answers, (b,) bool; False where it is not queried.

    Rows where `asked` (b,) bool is true and the budget suffices are queried, at `target.votes` passes each.
    index: (b,) int64, not falling, the example of each row, where an example may have several.
    """
    left = target.tuned(draws=1).remaining()
    at = asked.nonzero().squeeze(1)
    if left is not None:
        before = torch.zeros_like(at) if index is None else rank(index[at])
        at = at[left[at] >= (before + 1) * target.votes]
    won = torch.zeros_like(asked)
    if len(at):
        labels = target.rows(at).answers(x_adv[at])
        won[at] = (labels == y[at]) if targeted else (labels != y[at]) & (labels >= 0)
    return won
