"""The trigger of a system's poison at test time, and the label that it is to evoke."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark.api import InstancePoison, Poison
from benchmark.data import Examples
from benchmark.errors import DataError, StoreError
from benchmark.records.poison import PoisonedRows

__all__ = ["PROBES", "Backdoor", "victims"]

PROBES = 8
"""Number of test examples that are stored with the trigger, to see later that it is still the same."""
TOLERANCE = 1e-6
"""Largest difference between a stored trigger and that of today: machines round sines differently."""


@dataclass(frozen=True)
class Backdoor:
    """A poison as it acts at test time. victims: (V,) int64 ids, for one that is about given inputs; else None."""

    poison: Poison
    victims: Tensor | None = None

    @classmethod
    def of(cls, poisons: Sequence[Poison], held_out: Examples) -> Backdoor | None:
        """The backdoor of a stack of poisons, or None unless just one evokes a label; `held_out` is the test split."""
        found = [poison for poison in poisons if poison.evokes()]
        if len(found) != 1:
            return None
        (poison,) = found
        ids = held_out.ids[victims(poison, held_out)] if isinstance(poison, InstancePoison) else None
        return cls(poison, ids)

    def trigger(self, x: Tensor) -> Tensor:
        """Inputs with the trigger, (B, *S); as they are where the poison changes nothing at test time."""
        marked = self.poison.trigger(x.clone())
        return x.clone() if marked is None else marked

    def aim(self, ids: Tensor, y: Tensor) -> Tensor:
        """Label to evoke for examples of these ids and true labels, (B,) int64; -1 where they do not count."""
        aim = self.poison.aim(y)
        return aim if self.victims is None else torch.where(torch.isin(ids, self.victims.to(ids.device)), aim, -1)

    def probe(self, held_out: Examples) -> Tensor:
        """First test examples with the trigger, (P, *S)."""
        return self.trigger(held_out.x(torch.arange(min(PROBES, len(held_out)))))

    def recheck(self, stored: PoisonedRows, held_out: Examples, path: Path) -> None:
        """Compare with the trigger and the victims that were stored when the system was trained.

        Raises:
            StoreError: if they are others.
        """
        now = self.probe(held_out)
        same = stored.probe is not None and stored.probe.shape == now.shape
        if not same or float((stored.probe - now).abs().max()) > TOLERANCE:  # type: ignore[operator]
            raise StoreError(
                f"{path} holds another trigger than the poison makes now; the plugin or the dataset has changed since "
                "the system was trained: train it again in a store of its own"
            )
        if self.victims is not None and (stored.victims is None or not torch.equal(stored.victims, self.victims)):
            raise StoreError(f"{path} was crafted for other test examples than the dataset gives now; train it again")


def victims(poison: InstancePoison, held_out: Examples) -> Tensor:
    """Positions of the first examples of other labels than the target, (V,) int64.

    Raises:
        DataError: if there are fewer than the poison wants.
    """
    places = (poison.aim(held_out.y) >= 0).nonzero().flatten()[: poison.victims]
    if len(places) < poison.victims or not len(places):
        raise DataError(
            f"{type(poison).__name__} wants {poison.victims} victims, and {len(places)} test examples are of another "
            "label than its target; choose at least 1 and at most that many"
        )
    return places
