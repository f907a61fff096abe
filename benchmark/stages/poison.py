"""poison: poisons change the training split, and the core counts what they touched."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark import registry
from benchmark.config.cell import RunConfig
from benchmark.data import Examples
from benchmark.errors import DataError
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.stages.load import Loaded

__all__ = ["poison"]


def poison(config: RunConfig, loaded: Loaded) -> tuple[Examples, Tensor]:
    """The training examples after all poisons, and the ids that they touched.

    Raises:
        DataError: if a poison touches another number of examples than its rate says.
    """
    train, touched = loaded.splits.train, torch.empty(0, dtype=torch.int64)
    for place, plugin in enumerate(config.poisons):
        expected = int(plugin.rate * len(train))
        rng = SampleRandom(derive_seed(config.seed, "poison", place), train.ids)
        train, ids = plugin.corrupt(train, loaded.splits.spec, rng)
        if len(ids.unique()) != expected:
            raise DataError(
                f"poison.{registry.name_of(plugin)[1]} touched {len(ids.unique())} examples, and its rate of "
                f"{plugin.rate} allows {expected}; its author must mend it"
            )
        touched = torch.cat([touched, ids]).unique()
    return train, touched
