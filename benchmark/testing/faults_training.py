"""Datasets, models, defenses and poisons that each break one promise, made from sound ones.

The sound poison flips labels (Biggio et al., ACML 2011); the sound defense smooths labels (Szegedy et al., CVPR 2016).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark import sampling
from benchmark.api import Dataset, Defense, Loss, Model, Poison
from benchmark.data import Batch, DataSpec, Examples, Splits
from benchmark.sampling import SampleRandom

__all__ = ["SoundDataset", "SoundDefense", "SoundModel", "SoundPoison"]

# --- datasets --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SoundDataset(Dataset):
    """Sixty random inputs of two classes."""

    def revision(self, root: Path) -> str:
        """Always the same."""
        return "1"

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Forty to train, ten to select, ten to test."""
        ids = torch.arange(60)
        whole = Examples.of(ids, SampleRandom(0, ids).uniform(4, stream="x"), ids % 2)
        train, select, test = (whole.take(torch.arange(a, b)) for a, b in ((0, 40), (40, 50), (50, 60)))
        return Splits(train, select, test, DataSpec((4,), 2))


@dataclass(frozen=True)
class SharesExamples(SoundDataset):
    """Tests on examples that it trains on."""

    def load(self, root: Path, *, offline: bool) -> Splits:
        """The test split begins inside the train split."""
        splits = super().load(root, offline=offline)
        return dataclasses.replace(splits, test=splits.train.take(torch.arange(5)))


@dataclass(frozen=True)
class ForgetsToScale(SoundDataset):
    """Gives values up to 255."""

    def load(self, root: Path, *, offline: bool) -> Splits:
        """The test inputs are in the wrong unit."""
        splits = super().load(root, offline=offline)
        test = splits.test
        return dataclasses.replace(splits, test=dataclasses.replace(test, read=lambda at: test.read(at) * 255))


@dataclass(frozen=True)
class CountsLabelsFromOne(SoundDataset):
    """Gives labels 1 to K."""

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Every label is one too high."""
        splits = super().load(root, offline=offline)
        return dataclasses.replace(splits, train=dataclasses.replace(splits.train, y=splits.train.y + 1))


@dataclass(frozen=True)
class ShufflesGlobally(SoundDataset):
    """Orders its examples by a global generator."""

    def load(self, root: Path, *, offline: bool) -> Splits:
        """The train split in another order each time."""
        splits = super().load(root, offline=offline)
        return dataclasses.replace(splits, train=splits.train.take(torch.randperm(40)))


_loads = [0]


@dataclass(frozen=True)
class HasAMovingRevision(SoundDataset):
    """Counts how often it was asked."""

    def revision(self, root: Path) -> str:
        """Another text each time."""
        _loads[0] += 1
        return str(_loads[0])


# --- models ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SoundModel(Model):
    """A linear classifier."""

    def build(self, spec: DataSpec) -> nn.Module:
        """One layer."""
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(spec.classes)) if not spec.shape else _Linear(spec)


class _Linear(nn.Module):
    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.layer = nn.Linear(int(torch.tensor(spec.shape).prod()), spec.classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x.flatten(1))
        return logits


@dataclass(frozen=True)
class ForgetsAClass(SoundModel):
    """Gives one logit too few."""

    def build(self, spec: DataSpec) -> nn.Module:
        """A layer for one class less."""
        return _Linear(dataclasses.replace(spec, classes=spec.classes - 1))


class _Centred(_Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0, keepdim=True))


@dataclass(frozen=True)
class CentresOverTheBatch(SoundModel):
    """Subtracts the mean of the batch."""

    def build(self, spec: DataSpec) -> nn.Module:
        """Logits that depend on the neighbours."""
        return _Centred(spec)


class _Dropping(_Linear):
    def forward(self, x: Tensor) -> Tensor:
        torch.rand(1)
        return super().forward(x)


@dataclass(frozen=True)
class DropsInEvaluation(SoundModel):
    """Draws in evaluation."""

    def build(self, spec: DataSpec) -> nn.Module:
        """A draw per pass."""
        return _Dropping(spec)


class _Unused(_Linear):
    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.unused = nn.Parameter(torch.zeros(3))


@dataclass(frozen=True)
class HasAnIdleWeight(SoundModel):
    """Holds a weight that takes no part."""

    def build(self, spec: DataSpec) -> nn.Module:
        """A layer and three idle numbers."""
        return _Unused(spec)


_builds = [0]


@dataclass(frozen=True)
class StartsAnywhere(SoundModel):
    """Draws initial weights from a generator of its own that nobody seeds."""

    def build(self, spec: DataSpec) -> nn.Module:
        """Other weights each time."""
        _builds[0] += 1
        module = _Linear(spec)
        with torch.no_grad():
            module.layer.bias.fill_(0.01 * _builds[0])
        return module


@dataclass(frozen=True)
class LearnsOnAndOn(SoundModel):
    """Fits itself to something else each time."""

    def learn(self, module: nn.Module, train: Examples, spec: DataSpec, seed: int) -> None:
        """Another bias each time."""
        _builds[0] += 1
        assert isinstance(module, _Linear)
        with torch.no_grad():
            module.layer.bias.fill_(0.01 * _builds[0])


# --- defenses --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SoundDefense(Defense):
    """Smooths labels in the loss, scales inputs at inference, and suspects bright ones."""

    detects = True

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The cross-entropy with a uniform share of 0.1."""
        return 0.9 * inner(model, batch) - 0.1 * F.log_softmax(model(batch.x), 1).mean()

    def protect(self, model: nn.Module) -> nn.Module:
        """The model behind a factor."""
        return _Before(model, lambda x: x * 0.9)

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """The brightness."""
        return x.flatten(1).mean(1)


class _Before(nn.Module):
    """A function of the input before a model."""

    def __init__(self, model: nn.Module, change: object) -> None:
        super().__init__()
        self.model, self.change = model, change

    def forward(self, x: Tensor) -> Tensor:
        assert callable(self.change)
        logits: Tensor = self.model(self.change(x))
        return logits


@dataclass(frozen=True)
class RepeatsIds(SoundDefense):
    """Adds copies of the training examples under the same ids."""

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """Everything twice."""
        return train.take(torch.arange(len(train)).repeat(2))


@dataclass(frozen=True)
class AugmentsGlobally(SoundDefense):
    """Augments with torch's global generator."""

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """Noise from nowhere."""
        x = train.x()
        return Examples.of(train.ids, (x + 0.1 * torch.rand_like(x)).clamp(0, 1), train.y)


@dataclass(frozen=True)
class LosesTheMean(SoundDefense):
    """Gives a loss per example."""

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """(1,) instead of a scalar."""
        return inner(model, batch)[None]


_losses = [0]


@dataclass(frozen=True)
class WarmsUp(SoundDefense):
    """Counts its calls, and weighs the loss by the count."""

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """Grows with every call."""
        _losses[0] += 1
        return inner(model, batch) * (1 + 0.01 * _losses[0])


@dataclass(frozen=True)
class IsNeverOff(SoundDefense):
    """Says that it changes nothing at a strength of 0, and reads its strength nowhere."""

    neutral: ClassVar[Mapping[str, Any]] = {"strength": 0.0}

    strength: float = 0.1


@dataclass(frozen=True)
class StartsOnTheModel(SoundDefense):
    """Trains the model itself before the training, where it wanted a teacher."""

    def start(
        self, model: nn.Module, train: Examples, spec: DataSpec, fit: Callable[[nn.Module, Examples, Loss], None]
    ) -> Defense:
        """No copy."""
        fit(model, train, lambda module, batch: F.cross_entropy(module(batch.x), batch.y))
        return self


@dataclass(frozen=True)
class AttacksInTrainingMode(SoundDefense):
    """Looks for adversarial examples with passes that running statistics notice."""

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """A pass that nothing is learnt from, before the others."""
        with torch.no_grad():
            model(1.0 - batch.x)
        return super().loss(model, batch, inner, rng)


@dataclass(frozen=True)
class WakesFrozenLayers(SoundDefense):
    """Attacks in evaluation mode, and puts everything into training mode afterwards."""

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The modes that it found are lost."""
        model.eval()
        model.train()
        return super().loss(model, batch, inner, rng)


@dataclass(frozen=True)
class RoundsTheGradientAway(SoundDefense):
    """Quantises the input, and says that gradients are meaningful."""

    def protect(self, model: nn.Module) -> nn.Module:
        """The model behind a staircase."""
        return _Before(model, lambda x: torch.round(x * 4) / 4)


@dataclass(frozen=True)
class DefenseHidesItsRandomness(SoundDefense):
    """Adds noise at inference, and does not say so."""

    def protect(self, model: nn.Module) -> nn.Module:
        """The model behind noise."""
        return _Before(model, lambda x: x + 0.1 * sampling.ambient().normal(*x.shape[1:], stream="noise"))


@dataclass(frozen=True)
class LooksAtTheNeighbours(SoundDefense):
    """Divides by the largest value of the batch."""

    def protect(self, model: nn.Module) -> nn.Module:
        """The model behind a factor that depends on the batch."""
        return _Before(model, lambda x: x / x.mean())


@dataclass(frozen=True)
class SuspectsTheBatch(SoundDefense):
    """Compares an input with the mean of the batch."""

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """The distance to the batch's mean."""
        distance: Tensor = torch.linalg.vector_norm((x - x.mean(0)).flatten(1), dim=1)
        return distance


# --- poisons ---------------------------------------------------------------------------------------------------------


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
