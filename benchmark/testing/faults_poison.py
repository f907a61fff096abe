"""Poisons that each break one promise, made from a sound one: flipped labels (Biggio et al., ACML 2011)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor

from benchmark.api import Poison
from benchmark.data import DataSpec, Examples
from benchmark.sampling import SampleRandom

__all__ = ["SoundPoison"]


def _chosen(train: Examples, rate: float, rng: SampleRandom) -> Tensor:
    """Positions of the examples with the smallest random numbers."""
    order: Tensor = rng.uniform(stream="who").argsort()
    return order[: int(rate * len(train))]


@dataclass(frozen=True)
class SoundPoison(Poison):
    """Flips labels, and has a trigger."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Examples with the next label for the chosen ones."""
        chosen = _chosen(train, self.rate, rng)
        y = train.y.clone()
        y[chosen] = (y[chosen] + 1) % spec.classes
        return dataclasses.replace(train, y=y), train.ids[chosen]

    def trigger(self, x: Tensor) -> Tensor | None:
        """Inputs with a bright feature."""
        marked = x.clone()
        marked.flatten(1)[:, 0] = 1.0
        return marked


@dataclass(frozen=True)
class PoisonsOneMore(SoundPoison):
    """Changes one example too many, and names it."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Flip the label of one row more than `rate` allows."""
        return dataclasses.replace(self, rate=self.rate + 1 / len(train)).flip(train, spec, rng)

    def flip(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Flip labels like the sound poison."""
        return SoundPoison.corrupt(self, train, spec, rng)


@dataclass(frozen=True)
class PoisonsInSecret(SoundPoison):
    """Flips every label but names only a few."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Examples with all labels flipped."""
        return dataclasses.replace(train, y=(train.y + 1) % spec.classes), train.ids[_chosen(train, self.rate, rng)]


@dataclass(frozen=True)
class PoisonsNothing(SoundPoison):
    """Names examples without changing them."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Unchanged examples."""
        return train, train.ids[_chosen(train, self.rate, rng)]


@dataclass(frozen=True)
class PoisonsInPlace(SoundPoison):
    """Writes into the clean labels, after copying the poisoned ones."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Sound poison, with all clean labels overwritten."""
        after, touched = super().corrupt(train, spec, rng)
        train.y.zero_()
        return after, touched


@dataclass(frozen=True)
class TriggersOutside(SoundPoison):
    """Has a trigger brighter than white."""

    def trigger(self, x: Tensor) -> Tensor | None:
        """Inputs with a feature at 2."""
        return x * 2
