"""Deep partition aggregation: a row changes at most one of many votes. Levine & Feizi, ICLR 2021, arXiv:2006.14768."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, DataError, DataSpec, Defense, Examples, Loss, SampleRandom, hookimpl

from ._backdoors.partitions import Partitions, parted


@dataclass(frozen=True)
class PartitionAggregation(Defense):
    """Train one network per partition of the training rows, and deploy their vote.

    A hash of a row's input selects its partition. All networks start from the same weights and are trained by the run's
    recipe, each with its own seed on its own partition only, so that adding or removing a row changes at most one vote:
    certifier=partition_aggregation certifies how many such changes the prediction withstands. Defenses that change the
    training cannot be combined with it, since they would not reach the networks.

    partitions: number of networks; a pass through the system costs as many passes.
    """

    trains_alone = True

    partitions: int = 10

    def __post_init__(self) -> None:
        if self.partitions < 1:
            raise ConfigError(f"partition_aggregation.partitions is {self.partitions}; expected at least 1")

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """The networks, all with the initial weights of `model`."""
        return Partitions(model, self.partitions)

    def passes(self, below: int) -> int:
        """Passes of all networks together."""
        return below * self.partitions

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """Zero: nothing is learned from batches of the whole split."""
        return 0.0 * torch.stack([weight.sum() for weight in model.parameters()]).sum()

    def finish(self, model: nn.Module, train: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Reset every network to its initial weights, and train it on its partition."""
        voters = next((m for m in model.modules() if isinstance(m, Partitions)), None)
        if voters is None:
            raise DataError("defense.partition_aggregation found none of its networks in this model; build it first")
        for member, rows in zip(voters.members, parted(train, self.partitions), strict=True):
            member.load_state_dict(voters.start)
            part = relabelled(train, rows)
            if len(part) < 2:  # nothing to learn from; the call keeps the seeds of the later ones
                fit(member, relabelled(train, torch.zeros(2, dtype=torch.int64)), _nothing)
                member.load_state_dict(voters.start)
            else:
                fit(member, part, _cross_entropy)


def relabelled(train: Examples, rows: Tensor) -> Examples:
    """The examples at `rows` (n,), with ids 0 to n - 1, which do not depend on their positions in the whole split."""
    part = train.take(rows)
    return Examples(torch.arange(len(rows)), part.y, part.read, part.soft)


def _cross_entropy(network: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(network(batch.x), batch.y if batch.soft is None else batch.soft)


def _nothing(network: nn.Module, batch: Batch) -> Tensor:
    logits: Tensor = network(batch.x)
    return 0.0 * logits.sum()


@hookimpl
def benchmark_component() -> type[PartitionAggregation]:
    """Register the plugin."""
    return PartitionAggregation
