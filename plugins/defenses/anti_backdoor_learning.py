"""Anti-backdoor learning: rows that are learned early are taken as poison and unlearned. Li et al., NeurIPS 2021,
arXiv:2110.11571, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, Defense, Examples, Loss, SampleRandom, hookimpl

ROWS = 512
BATCH = 64


@dataclass(frozen=True)
class AntiBackdoorLearning(Defense):
    """Train with the loss held at gamma, isolate rows of small loss, train on the rest, unlearn the isolated.

    While the system is trained, a batch's loss l counts as sign(l - gamma) l (local gradient ascent). The network is
    then trained on the remaining rows by the run's recipe, and finally ascends the loss of the isolated rows, in
    evaluation mode. Difference from the paper: each phase uses the run's recipe; only the last has its own number of
    epochs.

    gamma: loss below which the first phase ascends. isolated: share of rows that are unlearned.
    unlearning_epochs, unlearning_rate: passes over the isolated rows, and the learning rate of their SGD.
    """

    gamma: float = 0.5
    isolated: float = 0.01
    unlearning_epochs: int = 20
    unlearning_rate: float = 5e-4

    def __post_init__(self) -> None:
        if self.gamma < 0.0 or not 0.0 <= self.isolated < 1.0:
            raise ConfigError(
                f"anti_backdoor_learning has gamma {self.gamma} and isolated {self.isolated}; expected a loss of at "
                "least 0 and a share of the rows in [0, 1)"
            )
        if self.unlearning_epochs < 0 or not self.unlearning_rate > 0.0:
            raise ConfigError(
                f"anti_backdoor_learning has unlearning_epochs {self.unlearning_epochs} and unlearning_rate "
                f"{self.unlearning_rate}; expected at least 0 passes and a positive rate"
            )

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """sign(l - gamma) l, with l the loss of the stack below."""
        value = inner(model, batch)
        return torch.sign(value.detach() - self.gamma) * value

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Isolate rows, train on the rest, and unlearn the isolated rows."""
        suspects = soonest(row_losses(model, train), int(self.isolated * len(train)))
        rest = (~suspects).nonzero().flatten()
        fit(model, train.take(rest), lambda network, batch: F.cross_entropy(network(batch.x), batch.y))
        if bool(suspects.any()):
            isolated = train.take(suspects.nonzero().flatten())
            unlearn(model, isolated, self.unlearning_epochs, self.unlearning_rate)


@torch.no_grad()
def row_losses(model: nn.Module, train: Examples) -> Tensor:
    """Cross-entropy of each row, in evaluation mode, (N,)."""
    model.eval()
    parts = torch.arange(len(train)).split(ROWS)
    return torch.cat([F.cross_entropy(model(train.x(at)), train.y[at], reduction="none") for at in parts])


def soonest(losses: Tensor, count: int) -> Tensor:
    """The `count` rows of smallest loss, (N,) bool; among equal losses the earlier rows."""
    chosen = torch.zeros(len(losses), dtype=torch.bool)
    chosen[losses.argsort(stable=True)[:count]] = True
    return chosen


def unlearn(model: nn.Module, isolated: Examples, epochs: int, rate: float) -> None:
    """Ascend the loss of the isolated rows in place, in evaluation mode: batch statistics stay fixed; no randomness."""
    model.eval()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=rate, momentum=0.9)
    for _ in range(epochs):
        for at in torch.arange(len(isolated)).split(BATCH):
            with torch.enable_grad():
                loss = -F.cross_entropy(model(isolated.x(at)), isolated.y[at])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@hookimpl
def benchmark_component() -> type[AntiBackdoorLearning]:
    """Register the plugin."""
    return AntiBackdoorLearning
