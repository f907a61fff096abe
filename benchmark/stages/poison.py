"""poison: poisons change the training split, and the core counts what they touched."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark import registry
from benchmark.api import Poison
from benchmark.data import Examples, Splits
from benchmark.errors import DataError
from benchmark.sampling import SampleRandom, derive_seed

__all__ = ["poison"]


def poison(poisons: Sequence[Poison], splits: Splits, seed: int) -> tuple[Examples, Tensor]:
    """The training examples after all poisons, and the ids that they touched.

    Raises:
        DataError: if a poison touches another number of examples than its rate says.
    """
    train, touched = splits.train, torch.empty(0, dtype=torch.int64)
    for place, plugin in enumerate(poisons):
        expected = int(plugin.rate * len(train))
        rng = SampleRandom(derive_seed(seed, "poison", place), train.ids)
        train, ids = plugin.corrupt(train, splits.spec, rng)
        if len(ids.unique()) != expected:
            raise DataError(
                f"poison.{registry.name_of(plugin)[1]} touched {len(ids.unique())} examples, and its rate of "
                f"{plugin.rate} allows {expected}; its author must mend it"
            )
        touched = torch.cat([touched, ids]).unique()
    return train, touched
