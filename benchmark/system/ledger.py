"""Ledger of an attack's passes per example, and its budget."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.errors import BudgetError

__all__ = ["Ledger", "occurrence"]

TELL = 0.5
"""Least number of seconds between two reports of a ledger to an observer."""


class Ledger:
    """Passes charged to each example of a batch, and the state of its first gradient.

    forwards, backwards: (B,) int64. zero_gradient, bad_gradient: (B,) bool, of the first gradient computed.
    found_by: part of the attack that claims the candidate of each example, "" for an attack without parts.
    """

    def __init__(
        self, count: int, device: torch.device, queries: int | None, told: Callable[[Tensor], None] | None = None
    ) -> None:
        """Empty ledger. told: called with `forwards` from time to time, at most every `TELL` seconds."""
        self.forwards = torch.zeros(count, dtype=torch.int64, device=device)
        self.backwards = torch.zeros_like(self.forwards)
        self.zero_gradient = torch.zeros(count, dtype=torch.bool, device=device)
        self.bad_gradient = torch.zeros_like(self.zero_gradient)
        self.queries = queries
        self.found_by = [""] * count
        self._all_seen = False
        self._told, self._spoke = told, time.monotonic()

    def charge(self, owners: Tensor | None, times: int = 1) -> None:
        """Charge `times` forward passes to the examples `owners` (or all).

        Raises:
            BudgetError: before the pass, if it would exceed an example's budget.
        """
        if owners is None:
            new = self.forwards + times
        else:
            new = self.forwards.index_add(0, owners, torch.full_like(owners, times))
        if self.queries is not None and bool((new > self.queries).any()):
            raise BudgetError(
                f"the attack asked for query {int(new.max())} of an example, but threat.queries allows {self.queries}; "
                "an attack must stop when target.remaining() reaches 0"
            )
        self.forwards = new
        if self._told is not None and time.monotonic() - self._spoke >= TELL:
            self._spoke = time.monotonic()
            self._told(new)

    def charge_backward(self, owners: Tensor | None, times: int = 1) -> None:
        """Charge `times` backward passes to the examples `owners` (or all)."""
        if owners is None:
            self.backwards = self.backwards + times
        else:
            self.backwards = self.backwards.index_add(0, owners, torch.full_like(owners, times))

    def add(self, later: Ledger, kept: Tensor) -> None:
        """Add the cost of a later attack on the same examples; the first gradients stay those of this one.

        kept: (B,) bool, the examples whose candidate comes from the later attack.
        """
        self.forwards = self.forwards + later.forwards
        self.backwards = self.backwards + later.backwards
        for row in kept.nonzero().flatten().tolist():
            self.found_by[row] = later.found_by[row]

    def look_at(self, owners: Tensor | None, grad: Tensor) -> None:
        """Record if the first gradient of an example is zero or not finite."""
        if self._all_seen:
            return
        new = self.backwards == 0
        if owners is None:
            self._all_seen = True
            size = grad.flatten(1).abs().amax(1)
            self.zero_gradient = torch.where(new, size == 0, self.zero_gradient)
            self.bad_gradient = torch.where(new, ~(size < torch.inf), self.bad_gradient)
            return
        new = new[owners]
        if not bool(new.any()):
            return
        self._all_seen = bool((self.backwards > 0).index_fill(0, owners, True).all())
        new = new & (occurrence(owners) == 0)  # of several inputs of one example, the first
        size = grad[new].flatten(1).abs().amax(1)
        self.zero_gradient[owners[new]] = size == 0
        self.bad_gradient[owners[new]] = ~(size < torch.inf)


def occurrence(owners: Tensor) -> Tensor:
    """Number of earlier rows of the same example, (B,) int64."""
    order = owners.argsort(stable=True)
    ordered = owners[order]
    places = torch.arange(len(owners), device=owners.device)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    start = torch.where(first, places, torch.zeros_like(places)).cummax(0).values
    return torch.empty_like(order).scatter_(0, order, places - start)
