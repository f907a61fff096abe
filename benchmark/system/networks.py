"""Auxiliary networks of poisons and defenses, trained in memory from a seed.

A poison crafted on a substitute network, or a filter on the features of a network trained on the suspected rows, holds
a model by `inner` and trains it here. Nothing is stored: the same seed gives the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.data import Batch, DataSpec, Examples
from benchmark.errors import Refused
from benchmark.sampling import SampleRandom, derive_seed, using

__all__ = ["cross_entropy", "features", "features_of", "last_linear", "train_network"]

ROWS = 512
"""Number of rows per forward pass."""


class Architecture(Protocol):
    """The methods of a model plugin that are used here; see :class:`benchmark.api.Model`."""

    def build(self, spec: DataSpec) -> nn.Module:
        """Module with its initial weights, from torch's generator."""

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor] | None:
        """Weights that make training unnecessary."""

    def learn(self, module: nn.Module, train: Examples, spec: DataSpec, seed: int) -> None:
        """Fit a model that has no gradients."""

    @classmethod
    def learns(cls) -> bool:
        """True for a model that fits itself instead of being trained by gradients."""


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Base loss of every stack: the mean cross-entropy, with soft labels if there are any."""
    logits = model(batch.x)
    if batch.task is not None:
        return batch.task.loss(logits, batch.y)
    return F.cross_entropy(logits, batch.y if batch.soft is None else batch.soft.to(logits.dtype))


def train_network(
    model: Architecture,
    train: Examples,
    spec: DataSpec,
    *,
    epochs: int,
    seed: int,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    loss: Callable[[nn.Module, Batch], Tensor] = cross_entropy,
) -> nn.Module:
    """Build a model and train it with Adam, unless it has given weights or fits itself.

    Args:
        model: the architecture. train: the rows. epochs: passes over them. seed: of initial weights and order.
        learning_rate: of Adam. loss: the mean over a batch.

    Returns:
        The network in evaluation mode, its weights frozen; global generators are unchanged.
    """
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "init"))
        network = model.build(spec)
        given = model.pretrained(spec)
        if given is not None:
            network.load_state_dict(given)
        elif model.learns():
            model.learn(network, train, spec, derive_seed(seed, "learn") % 2**31)
        else:
            torch.manual_seed(derive_seed(seed, "layers"))
            _descend(network, train, epochs, seed, batch_size, learning_rate, loss)
    return network.eval().requires_grad_(False)


def _descend(
    network: nn.Module,
    train: Examples,
    epochs: int,
    seed: int,
    batch_size: int,
    learning_rate: float,
    loss: Callable[[nn.Module, Batch], Tensor],
) -> None:
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    for epoch in range(epochs):
        order = torch.randperm(
            len(train), generator=torch.Generator().manual_seed(derive_seed(seed, "order", epoch) % 2**63)
        )
        for at in order.split(batch_size):
            if len(at) < 2 <= len(train):
                continue  # batch statistics need two rows
            soft = None if train.soft is None else train.soft[at]
            batch = Batch(train.ids[at], train.x(at), train.y[at], soft)
            with using(SampleRandom(derive_seed(seed, "train", epoch), batch.ids)):
                value = loss(network, batch)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()


def last_linear(network: nn.Module) -> nn.Linear:
    """Last linear layer of a network, whose inputs are the network's features.

    Raises:
        Refused: if there is none, as in trees.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise Refused(
            f"{type(network).__name__} has no linear layer whose inputs could be its features; choose a network that "
            "ends in one, such as model=small_cnn"
        )
    return layers[-1]


def features(network: nn.Module, x: Tensor) -> Tensor:
    """Inputs of the last linear layer of `network` for `x` (B, *S), (B, D); gradients flow through to `x`."""
    seen: list[Tensor] = []
    handle = last_linear(network).register_forward_pre_hook(lambda _module, args: seen.append(args[0].flatten(1)))
    try:
        network(x)
    finally:
        handle.remove()
    return seen[-1]


@torch.no_grad()
def features_of(network: nn.Module, rows: Examples) -> Tensor:
    """Features of all rows, (N, D)."""
    return torch.cat([features(network, rows.x(at)) for at in torch.arange(len(rows)).split(ROWS)])
