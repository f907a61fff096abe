"""Queries about several proposals per example, within its budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import PASS_ROWS, Ball, SampleRandom, Target

from .._base.best import Best
from .._base.losses import margin
from .._base.survivors import REFUSED
from .._base.vectors import columns

__all__ = ["Oracle", "fold", "gaussian", "inside", "signs", "uniform"]

PROPOSAL_VALUES = 1 << 15
"""Input values that a pass may have even if all examples together have fewer: a pass over few values costs as much."""

_Question = Callable[[Target, Tensor], Tensor]


def fold(weights: Tensor, directions: Tensor, start: Tensor) -> Tensor:
    """(b, *S): `start` (b, *S) plus the sum of weights (b, n) times directions (b, n, *S).

    Added one after the other, so that the bits do not depend on how the n directions are split over calls.
    """
    total = start
    for change in (columns(weights, directions) * directions).unbind(1):
        total = total + change
    return total


def gaussian(rng: SampleRandom, shape: torch.Size, count: int, *, stream: str, first: int = 0) -> Tensor:
    """Standard normal noise, the draws `first` to `first` + count - 1 of each example's stream, (b, count, *S)."""
    repeated, draw = _draws(rng, count, first)
    return repeated.normal(*shape, stream=stream, draw=draw).reshape(len(rng), count, *shape)


def uniform(rng: SampleRandom, shape: torch.Size, count: int, *, stream: str, first: int = 0) -> Tensor:
    """Noise uniform in [-1, 1), the draws `first` to `first` + count - 1 of each example's stream, (b, count, *S)."""
    repeated, draw = _draws(rng, count, first)
    return repeated.uniform(*shape, stream=stream, draw=draw, low=-1.0).reshape(len(rng), count, *shape)


def signs(rng: SampleRandom, shape: torch.Size, count: int, *, stream: str, first: int = 0) -> Tensor:
    """Random signs, the draws `first` to `first` + count - 1 of each example's stream, (b, count, *S)."""
    repeated, draw = _draws(rng, count, first)
    return repeated.signs(*shape, stream=stream, draw=draw).reshape(len(rng), count, *shape)


def _draws(rng: SampleRandom, count: int, first: int) -> tuple[SampleRandom, Tensor]:
    b, device = len(rng), rng.ids.device
    repeated = rng.rows(torch.arange(b, device=device).repeat_interleave(count))
    return repeated, torch.arange(first, first + count, device=device).repeat(b)


def inside(ball: Ball, proposals: Tensor) -> Tensor:
    """Each of the n proposals per example, projected into `ball` (of b examples), (b, n, *S)."""
    b, n = proposals.shape[:2]
    repeated = ball.rows(torch.arange(b, device=proposals.device).repeat_interleave(n))
    return repeated.project(proposals.flatten(0, 1)).reshape(proposals.shape)


@dataclass(frozen=True)
class Oracle:
    """Query interface: proposals (b, n, *S) for the examples `index` (b,) int64, never beyond their budgets.

    Of the n proposals of an example, those that its budget no longer allows are not asked about: they are not
    `answered`, and do not win. All the proposals of a call share passes of as many rows as there are examples, or some
    more where they are few or small, so that several proposals take little more memory than one.

    y: (B,) the labels to leave, or to reach if `targeted`. settle: an example ends at its first success.
    """

    target: Target
    y: Tensor
    targeted: bool = False
    settle: bool = False

    def todo(self, best: Best, index: Tensor) -> Tensor:
        """Examples of `index` to go on with, within their budget; with `settle` not those with a success."""
        if self.settle:
            index = index[~best.won[index]]
        return index[self.can_ask(index)]

    def offer(self, best: Best, index: Tensor, x_adv: Tensor) -> Tensor:
        """Ask about `x_adv` (b, *S) and offer them by their margins; (b,) bool, which are better."""
        value, won = self.value(index, x_adv)
        return best.offer(index, x_adv, won, value)

    def visit(self, best: Best, index: Tensor, x_adv: Tensor) -> Tensor:
        """Query `x_adv` (B, *S) for the examples `index` (b,) and offer it to `best`; the examples to go on with.

        Examples whose budget is spent are not queried.
        """
        index = self.todo(best, index)
        if len(index) == 0:
            return index
        self.offer(best, index, x_adv[index])
        return self.todo(best, index)

    def can_ask(self, index: Tensor) -> Tensor:
        """True where the budget allows another query for the examples `index` (b,), (b,) bool."""
        return self.answers(index, 1).squeeze(1)

    def answers(self, index: Tensor, count: int) -> Tensor:
        """True for those of the next `count` queries of each example that the budget allows, (b, count) bool."""
        left = self.target.rows(index).remaining()
        if left is None:
            return torch.ones(len(index), count, dtype=torch.bool, device=index.device)
        return torch.arange(count, device=index.device) < left[:, None]

    def wins(self, index: Tensor, proposals: Tensor) -> tuple[Tensor, Tensor]:
        """Success and answered, (b, n) bool each, from labels alone."""
        answered = self.answers(index, proposals.shape[1])
        labels = self._ask(index, proposals, answered, Target.labels, self.y[:0])
        won = torch.zeros_like(answered)
        won[answered] = ((labels == self._labels(answered, index)) == self.targeted) & (labels != REFUSED)
        return won, answered

    def win(self, index: Tensor, x_adv: Tensor) -> Tensor:
        """Success of `x_adv` (b, *S), (b,) bool; false where the budget is spent."""
        return self.wins(index, x_adv[:, None])[0].squeeze(1)

    def values(self, index: Tensor, proposals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Signed margins (b, n), success and answered, (b, n) bool each, from scores.

        The margin is that of Carlini & Wagner, positive where the proposal succeeds; minus infinity where it is NaN or
        was not asked for.
        """
        answered = self.answers(index, proposals.shape[1])
        logits = self._ask(index, proposals, answered, Target.logits, self._no_logits(proposals))
        labels = self._labels(answered, index)
        value = margin(logits, labels)
        value = torch.where(torch.isnan(value), -torch.inf, -value if self.targeted else value)
        success = ((logits.argmax(1) == labels) == self.targeted) & (value > -torch.inf)
        if self.target.detected:
            success = self._accepted(index, proposals, answered, success)
        if len(value) == answered.numel():
            return value.reshape(answered.shape), success.reshape(answered.shape), answered
        values = torch.full(answered.shape, -torch.inf, dtype=value.dtype, device=value.device)
        won = torch.zeros_like(answered)
        values[answered] = value
        won[answered] = success
        return values, won, answered

    def _accepted(self, index: Tensor, proposals: Tensor, answered: Tensor, won: Tensor) -> Tensor:
        """Successes by scores, `won` (a,) bool of the answered, that no detector refuses; a query each."""
        fooled, taken = torch.zeros_like(answered), torch.zeros_like(answered)
        fooled[answered] = won
        left = self.target.rows(index).remaining()
        asked = fooled if left is None else fooled & (fooled.cumsum(1) <= left[:, None])
        if bool(asked.any()):
            owners = index[:, None].expand(asked.shape)[asked]
            taken[asked] = self.target.rows(owners).labels(proposals[asked]) != REFUSED
        return taken[answered]

    def value(self, index: Tensor, x_adv: Tensor) -> tuple[Tensor, Tensor]:
        """Signed margin (b,) and success (b,) bool of `x_adv` (b, *S)."""
        values, won, _ = self.values(index, x_adv[:, None])
        return values.squeeze(1), won.squeeze(1)

    def group(self, count: int, size: int) -> int:
        """Proposals per example, of `size` features, that fill a pass with `count` examples."""
        return max(1, self._pass_rows(size) // max(1, count)) if self.target.certain else PASS_ROWS

    def _pass_rows(self, size: int) -> int:
        return max(len(self.y), 4 * PASS_ROWS, PROPOSAL_VALUES // max(1, size))

    def _no_logits(self, proposals: Tensor) -> Tensor:
        return proposals.new_zeros(0, self.target.classes)

    def _labels(self, answered: Tensor, index: Tensor) -> Tensor:
        return self.y[index][:, None].expand(answered.shape)[answered]

    def _ask(self, index: Tensor, proposals: Tensor, answered: Tensor, question: _Question, empty: Tensor) -> Tensor:
        owners, asked = index.repeat_interleave(proposals.shape[1]), proposals.flatten(0, 1)
        if not bool(answered.all()):
            rows = answered.flatten()
            owners, asked = owners[rows], asked[rows]
        if len(asked) == 0:
            return empty
        # What a random system draws depends on the passes before, which must not depend on the batch: a single pass.
        size = self._pass_rows(asked[0].numel()) if self.target.certain else len(asked)
        if len(asked) <= size:
            return question(self.target.rows(owners), asked)
        parts = zip(owners.split(size), asked.split(size), strict=True)
        return torch.cat([question(self.target.rows(owner), x) for owner, x in parts])
