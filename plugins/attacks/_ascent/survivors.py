"""What is left to do, and the best so far: rows of work, one per example or one per example and class to reach."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import PASS_ROWS, Ball, Target

__all__ = ["Best", "PairLoss", "Work"]

FORWARD_ROWS = 2
"""A forward pass has so many times the rows of one with a gradient, which keeps what every layer computes."""

PASS_VALUES = 2**14
"""A pass may have so many input values even if all examples together have fewer: one of few values costs as much."""

PairLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From logits (b, K), the labels `y` (b,) and the classes to reach `rival` (b,), to (b,): what a row ascends."""


def _rank(example: Tensor) -> Tensor:
    """(b,) int64: how many earlier rows belong to the same example; `example` (b,) does not fall."""
    places = torch.arange(len(example), device=example.device)
    first = torch.ones_like(example, dtype=torch.bool)
    first[1:] = example[1:] != example[:-1]
    return places - torch.where(first, places, 0).cummax(0).values


@dataclass(frozen=True)
class Work:
    """Rows that are still worked on, those of one example beside each other.

    target: of these rows. ball: what is allowed around them. y: (b,) the labels to leave, or to reach.
    rival: (b,) the class that a row tries to reach instead of `y`; `y` itself where any will do.
    example: (b,) int64, the row's example. pass_rows: how many rows go into one pass: as many as there are examples,
    so that several rows per example take no more memory than one; more where the inputs are small.
    """

    target: Target
    ball: Ball
    y: Tensor
    rival: Tensor
    example: Tensor
    pass_rows: int

    @classmethod
    def of(cls, target: Target, ball: Ball, y: Tensor, rivals: Tensor | None, those: Tensor) -> Work:
        """The work on the examples where `those` (B,) bool is true, one row for each class in `rivals` (B, C)."""
        index = those.nonzero().squeeze(1)
        each = 1 if rivals is None else rivals.shape[1]
        example = index.repeat_interleave(each)
        labels = y[example]
        rival = labels if rivals is None else rivals[index].flatten()
        most = max(len(y), 2 * PASS_ROWS, PASS_VALUES // max(ball.x[0].numel(), 1) if len(y) else 0)
        return cls(target.rows(example), ball.rows(example), labels, rival, example, most)

    def __len__(self) -> int:
        return len(self.y)

    def keep(self, those: Tensor) -> Work:
        """The rows where `those` (b,) bool is true."""
        return self.rows(those.nonzero().squeeze(1))

    def rows(self, index: Tensor) -> Work:
        """The rows at `index` (int64, does not fall, may repeat)."""
        return dataclasses.replace(
            self,
            target=self.target.rows(index),
            ball=self.ball.rows(index),
            y=self.y[index],
            rival=self.rival[index],
            example=self.example[index],
        )

    def affordable(self) -> Tensor:
        """(b,) bool: whether the query budget allows another pass for the row and for those before it."""
        left = self.target.remaining()
        if left is None:
            return torch.ones(len(self), dtype=torch.bool, device=self.y.device)
        return left > _rank(self.example)

    def gradient(self, x_adv: Tensor, loss: PairLoss) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient (b, *S) of the loss, its value (b,), minus infinity where it is NaN, and the logits (b, K)."""
        parts = [
            self._gradient(x_adv, loss) if at is None else self.rows(at)._gradient(x_adv[at], loss)
            for at in self._passes()
        ]
        gradient, value, logits = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
        return gradient, value.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf), logits

    def _gradient(self, x_adv: Tensor, loss: PairLoss) -> tuple[Tensor, Tensor, Tensor]:
        return self.target.gradient(x_adv, lambda logits: loss(logits, self.y, self.rival))

    def logits(self, x_adv: Tensor) -> Tensor:
        """(b, K): the scores; one forward pass per row."""
        parts = [
            self.target.logits(x_adv) if at is None else self.target.rows(at).logits(x_adv[at])
            for at in self._passes(FORWARD_ROWS)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _passes(self, times: int = 1) -> Sequence[Tensor | None]:
        """The rows of each pass, or None for all. A random system draws by the passes before: there it is one."""
        if len(self) <= times * self.pass_rows or not self.target.certain:
            return [None]
        return list(torch.arange(len(self), device=self.y.device).split(times * self.pass_rows))


class Best:
    """Per example the best candidate so far: a success before a failure, then the higher value.

    x_adv: (B, *S). won: (B,) bool, whether it was seen to succeed. value: (B,).
    """

    def __init__(self, x: Tensor) -> None:
        self.x_adv = x.clone()
        self.won = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.value = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)

    def offer(self, example: Tensor, x_adv: Tensor, won: Tensor, value: Tensor) -> Tensor:
        """Take over what is better; of several candidates (b, *S) for one example the best, of equals the first.

        Returns:
            (n,) int64: the examples that have got a better one. Those of `example` (b,) do not fall.
        """
        value = value.to(self.value.dtype)
        better = torch.where(won == self.won[example], value > self.value[example], won)
        at = better.nonzero().squeeze(1)
        rows = example[at]
        if bool((rows[1:] == rows[:-1]).any()):
            order = value[at].argsort(descending=True, stable=True)
            order = order[won[at][order].argsort(descending=True, stable=True)]
            at = at[order]
            at = at[example[at].argsort(stable=True)]
            at = at[_rank(example[at]) == 0]
            rows = example[at]
        if len(at):
            self.x_adv[rows], self.won[rows], self.value[rows] = x_adv[at], won[at], value[at]
        return rows
