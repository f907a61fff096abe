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
        """The next label for the chosen examples."""
        chosen = _chosen(train, self.rate, rng)
        y = train.y.clone()
        y[chosen] = (y[chosen] + 1) % spec.classes
        return dataclasses.replace(train, y=y), train.ids[chosen]

    def trigger(self, x: Tensor) -> Tensor | None:
        """A bright feature."""
        marked = x.clone()
        marked.flatten(1)[:, 0] = 1.0
        return marked


@dataclass(frozen=True)
class PoisonsOneMore(SoundPoison):
    """Touches one example more than it may, and says so."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """One too many."""
        return dataclasses.replace(self, rate=self.rate + 1 / len(train)).flip(train, spec, rng)

    def flip(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Flip labels as the sound poison does."""
        return SoundPoison.corrupt(self, train, spec, rng)


@dataclass(frozen=True)
class PoisonsInSecret(SoundPoison):
    """Flips every label and names a few."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """All of them."""
        return dataclasses.replace(train, y=(train.y + 1) % spec.classes), train.ids[_chosen(train, self.rate, rng)]


@dataclass(frozen=True)
class PoisonsNothing(SoundPoison):
    """Names examples and leaves them as they are."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """None of them."""
        return train, train.ids[_chosen(train, self.rate, rng)]


@dataclass(frozen=True)
class PoisonsInPlace(SoundPoison):
    """Writes into the clean labels, after the poisoned ones are copied."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """The right poison, and then no clean label is left as it was."""
        after, touched = super().corrupt(train, spec, rng)
        train.y.zero_()
        return after, touched


@dataclass(frozen=True)
class TriggersOutside(SoundPoison):
    """Has a trigger that is brighter than white."""

    def trigger(self, x: Tensor) -> Tensor | None:
        """Twice as bright."""
        return x * 2
