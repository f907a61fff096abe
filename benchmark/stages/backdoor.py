"""The trigger of a system's poison at test time, and its target label."""

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
"""Number of test examples stored with the trigger, to detect later changes of it."""
TOLERANCE = 1e-6
"""Largest difference between a stored and a recomputed trigger: machines round sines differently."""


@dataclass(frozen=True)
class Backdoor:
    """Test-time behaviour of a poison. victims: (V,) int64 ids, for a poison crafted for given inputs; else None."""

    poison: Poison
    victims: Tensor | None = None

    @classmethod
    def of(cls, poisons: Sequence[Poison], held_out: Examples) -> Backdoor | None:
        """Backdoor of a stack of poisons, None unless exactly one targets a label; `held_out` is the test split."""
        found = [poison for poison in poisons if poison.evokes()]
        if len(found) != 1:
            return None
        (poison,) = found
        ids = held_out.ids[victims(poison, held_out)] if isinstance(poison, InstancePoison) else None
        return cls(poison, ids)

    def trigger(self, x: Tensor) -> Tensor:
        """Inputs with the trigger, (B, *S); unchanged if the poison changes nothing at test time."""
        marked = self.poison.trigger(x.clone())
        return x.clone() if marked is None else marked

    def aim(self, ids: Tensor, y: Tensor) -> Tensor:
        """Target labels for examples of these ids and true labels, (B,) int64; -1 where an example does not count."""
        aim = self.poison.aim(y)
        return aim if self.victims is None else torch.where(torch.isin(ids, self.victims.to(ids.device)), aim, -1)

    def probe(self, held_out: Examples) -> Tensor:
        """First test examples with the trigger, (P, *S)."""
        return self.trigger(held_out.x(torch.arange(min(PROBES, len(held_out)))))

    def recheck(self, stored: PoisonedRows, held_out: Examples, path: Path) -> None:
        """Compare with the trigger and the victims stored when the system was trained.

        Raises:
            StoreError: if they differ.
        """
        now = self.probe(held_out)
        same = stored.probe is not None and stored.probe.shape == now.shape
        if not same or float((stored.probe - now).abs().max()) > TOLERANCE:  # type: ignore[operator]
            raise StoreError(
                f"{path} holds another trigger than the poison's present one; the plugin or the dataset has changed "
                "since the system was trained: train it again in another store"
            )
        if self.victims is not None and (stored.victims is None or not torch.equal(stored.victims, self.victims)):
            raise StoreError(
                f"{path} was crafted for other test examples than the dataset's present ones; train it again"
            )


def victims(poison: InstancePoison, held_out: Examples) -> Tensor:
    """Positions of the first examples whose label is not the target, (V,) int64.

    Raises:
        DataError: if there are fewer than the poison needs.
    """
    places = (poison.aim(held_out.y) >= 0).nonzero().flatten()[: poison.victims]
    if len(places) < poison.victims or not len(places):
        raise DataError(
            f"{type(poison).__name__} needs {poison.victims} victims, but only {len(places)} test examples do not "
            "have its target label; choose at least 1 and at most that many"
        )
    return places
