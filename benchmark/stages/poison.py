"""poison: apply poisons to the training split, and check which rows they changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from benchmark import registry
from benchmark.api import InstancePoison, Poison
from benchmark.data import DataSpec, Examples, Splits
from benchmark.errors import DataError
from benchmark.records.poison import PoisonedRows
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.stages.backdoor import Backdoor, victims

__all__ = ["corrupted", "poison"]


def poison(poisons: Sequence[Poison], splits: Splits, seed: int) -> tuple[Examples, PoisonedRows | None]:
    """Training examples after all poisons, and the rows that they changed; None without poisons.

    Raises:
        DataError: if a poison does not change as many examples as its rate says, changes rows that it does not name, or
            changes another split.
    """
    if not poisons:
        return splits.train, None
    others = {"select": splits.select, "test": splits.test}
    digests = {split: part.digest() for split, part in others.items()}
    train, touched = splits.train, torch.empty(0, dtype=torch.int64)
    for place, plugin in enumerate(poisons):
        expected = int(plugin.rate * len(train))
        rng = SampleRandom(derive_seed(seed, "poison", place), train.ids)
        name = f"poison.{registry.name_of(plugin)[1]}"
        before = train
        with registry.calling(plugin, draws=False):
            train, ids = corrupted(plugin, train, splits.test, splits.spec, rng)
        if len(ids.unique()) != expected:
            raise DataError(
                f"{name} touched {len(ids.unique())} examples, but its rate of {plugin.rate} allows {expected}; its "
                f"author must fix it"
            )
        difference = PoisonedRows.of(before, train, ids).applied(before).difference(train)
        if difference:
            raise DataError(f"{name} changed {difference} but did not name it; its author must fix it")
        for split, part in others.items():
            if part.digest() != digests[split] or bool(torch.isin(train.ids, part.ids).any()):
                raise DataError(
                    f"{name} changed the {split} split; a poison may change training examples only: its author must "
                    "fix it"
                )
        touched = torch.cat([touched, ids]).unique()
    backdoor = Backdoor.of(poisons, splits.test)
    rows = PoisonedRows.of(splits.train, train, touched)
    if backdoor is not None:
        rows = replace(rows, probe=backdoor.probe(splits.test), victims=backdoor.victims)
    return train, rows


def corrupted(
    poison: Poison, train: Examples, held_out: Examples, spec: DataSpec, rng: SampleRandom
) -> tuple[Examples, Tensor]:
    """Apply a poison to the training examples; returns the result, and the ids (M,) that it names.

    Args:
        held_out: source of the victims of a poison that is crafted for given inputs.
    """
    if isinstance(poison, InstancePoison):
        return poison.corrupt_for(train, held_out.take(victims(poison, held_out)), spec, rng)
    return poison.corrupt(train, spec, rng)
