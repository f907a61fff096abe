"""Poisoned rows by id: stored, read back and compared, because only stored perturbations count.

A poison plugin returns training examples, which may be read lazily and may differ from the stored form. The rows that
it names are therefore written to a file, and training uses the clean rows with those of the file in their places.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark.data import Examples
from benchmark.errors import DataError

__all__ = ["POISON", "PoisonedRows"]

POISON = "poison.safetensors"
"""File beside the weights of a poisoned system."""


@dataclass(frozen=True)
class PoisonedRows:
    """Rows that a poison changed or added.

    ids: (M,) int64. x: (M, *S) float32 in [0, 1]. y: (M,) int64. added: (M,) bool, not a row of the clean training
    split.
    probe: (P, *S), the first test examples with the trigger, or None. victims: (V,) int64, ids of the test examples
    that the poison was crafted for, or None.
    """

    ids: Tensor
    x: Tensor
    y: Tensor
    added: Tensor
    probe: Tensor | None = None
    victims: Tensor | None = None

    @classmethod
    def of(cls, clean: Examples, poisoned: Examples, touched: Tensor) -> PoisonedRows:
        """Rows of `poisoned` whose ids are in `touched` (M,), in the order of `poisoned`.

        Raises:
            DataError: if no row has one of the ids.
        """
        at = torch.isin(poisoned.ids, touched).nonzero().flatten()
        if len(at) != len(touched.unique()):
            raise DataError(
                f"{len(touched.unique())} ids were named as poisoned, but only {len(at)} of them are rows of the "
                "poisoned examples"
            )
        return cls(poisoned.ids[at], poisoned.x(at), poisoned.y[at], ~torch.isin(poisoned.ids[at], clean.ids))

    def save(self, path: Path) -> None:
        """Write the rows as safetensors."""
        from safetensors.torch import save_file

        arrays = {name: value for name, value in vars(self).items() if value is not None}
        save_file({name: value.contiguous().clone() for name, value in arrays.items()}, str(path))

    @classmethod
    def load(cls, path: Path) -> PoisonedRows:
        """Read a file written by `save`."""
        from safetensors.torch import load_file

        return cls(**load_file(str(path)))

    def applied(self, clean: Examples) -> Examples:
        """Clean training examples with these rows in their places, followed by the added ones."""
        inside = {int(i): at for at, i in enumerate(clean.ids.tolist())}
        old = ~self.added
        positions = torch.tensor([inside[int(i)] for i in self.ids[old].tolist()], dtype=torch.int64)
        train = clean.changed(positions, x=self.x[old], y=self.y[old]) if len(positions) else clean
        if not bool(self.added.any()):
            return train
        return train.added(self.ids[self.added], self.x[self.added], self.y[self.added])
