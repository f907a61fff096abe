"""A purifier with weights of its own, and the model that it stands beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.api import Batch, SampleRandom, derive_seed

__all__ = ["Accompanied", "OnceFitted", "Purifier", "noise_of"]


class Purifier(nn.Module):
    """Learnt state of a purifier. fitted: whether there is any yet; it is part of the state.

    Its weights are frozen but while it is fitted, since they have no part in the classifier's training.
    """

    fitted: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Fit the purifier inside the block, with weights that can be trained; from then on, it purifies."""
        self.requires_grad_(True)
        yield
        self.requires_grad_(False)
        self.fitted.fill_(True)
        self.eval()


@dataclass(frozen=True)
class OnceFitted:
    """Inputs (B, *S) after `purify`; before the purifier is fitted, as they are.

    So the epochs of the classifier, which is trained first, are chosen by what it does on its own.
    """

    purifier: Purifier
    purify: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        """(B, *S)."""
        return self.purify(x) if bool(self.purifier.fitted) else x


class Accompanied(nn.Module):
    """A model whose state includes that of a purifier, which it does not ask."""

    def __init__(self, model: nn.Module, purifier: Purifier) -> None:
        super().__init__()
        self.model, self.purifier = model, purifier
        purifier.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *S) to logits (B, K), of the model alone."""
        logits: Tensor = self.model(x)
        return logits


def noise_of(batch: Batch, *shape: int, stream: str, draw: int = 0) -> Tensor:
    """Standard normal noise for a training batch, by the seed that the core has set for the epoch, (B, *shape)."""
    rng = SampleRandom(derive_seed(torch.initial_seed(), stream), batch.ids)
    return rng.normal(*shape, stream=stream, draw=draw).to(batch.x.dtype)
