"""A purifier with its own weights, and the model to which it is attached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.api import Batch, SampleRandom, derive_seed

__all__ = ["Accompanied", "OnceFitted", "Purifier", "noise_of"]


class Purifier(nn.Module):
    """Learned state of a purifier. fitted: whether it has been fitted, part of the state.

    The weights are frozen except during fitting, since they take no part in the classifier's training.
    """

    fitted: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Make the weights trainable inside the block; afterwards the purifier is marked as fitted."""
        self.requires_grad_(True)
        yield
        self.requires_grad_(False)
        self.fitted.fill_(True)
        self.eval()


@dataclass(frozen=True)
class OnceFitted:
    """Map inputs (B, *S) by `purify`; identity until the purifier is fitted.

    The classifier is trained first, so its epochs are selected by its performance without the purifier.
    """

    purifier: Purifier
    purify: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        """(B, *S)."""
        return self.purify(x) if bool(self.purifier.fitted) else x


class Accompanied(nn.Module):
    """A model whose state includes that of a purifier, which its forward pass does not use."""

    def __init__(self, model: nn.Module, purifier: Purifier) -> None:
        super().__init__()
        self.model, self.purifier = model, purifier
        purifier.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *S) to logits (B, K) of the model without the purifier."""
        logits: Tensor = self.model(x)
        return logits


def noise_of(batch: Batch, *shape: int, stream: str, draw: int = 0) -> Tensor:
    """Standard normal noise for a training batch, (B, *shape), drawn from the seed that the core sets per epoch."""
    rng = SampleRandom(derive_seed(torch.initial_seed(), stream), batch.ids)
    return rng.normal(*shape, stream=stream, draw=draw).to(batch.x.dtype)
