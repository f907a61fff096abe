"""Attach the fitted part of a detector to the classifier that it watches, so that one file holds both."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from benchmark.api import ConfigError, Examples, SampleRandom, ambient, derive_seed, padded, padded_random, using

__all__ = ["ROWS", "Attached", "asked_again", "attached", "evaluated", "over"]

Found = TypeVar("Found", bound="Attached")
ROWS = 256
"""Examples per pass while a detector is fitted; a multiple of the rows to which passes are padded."""


class Attached(nn.Module):
    """A classifier with the fitted part of a detector beside it; the logits are those of the classifier.

    A detector keeps what it fits in buffers of a subclass, whose shapes `build` knows.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *S) to (B, K)."""
        logits: Tensor = self.model(x)
        return logits


def attached(model: nn.Module, kind: type[Found]) -> Found:
    """The part of that kind anywhere inside a protected model.

    Raises:
        ConfigError: if the model was built without it.
    """
    found = next((module for module in model.modules() if isinstance(module, kind)), None)
    if found is None:
        raise ConfigError(
            f"the system has no {kind.__name__}, which its detector attaches to the classifier; build the architecture "
            "with the detector among its defenses"
        )
    return found


@contextlib.contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode and without gradients inside the block, each module in its own mode after it."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def over(model: nn.Module, train: Examples, compute: Callable[[Tensor], Tensor], *, name: str) -> Tensor:
    """Values of `compute` for all examples, (N, ...), in evaluation mode, by the same passes as at inference.

    Args:
        compute: from x (B, *S) to (B, ...). name: of the detector; randomised stages draw by it and by the ids.
    """
    parts = []
    with evaluated(model):
        for at in torch.arange(len(train)).split(ROWS):
            x, rng = train.x(at), SampleRandom(derive_seed(name), train.ids[at])
            with using(padded_random(rng)):
                parts.append(compute(padded(x))[: len(x)])
    return torch.cat(parts)


def asked_again(model: nn.Module, x: Tensor, owners: Tensor) -> Tensor:
    """(M, K) logits of further inputs, whose randomness is that of the rows of the current pass which they belong to.

    Args:
        x: (M, *S). owners: (M,) int64, rows of the current pass.
    """
    rng = _ambient()
    with contextlib.nullcontext() if rng is None else using(padded_random(rng.rows(owners))):
        logits: Tensor = model(padded(x))
    return logits[: len(x)]


def _ambient() -> SampleRandom | None:
    """The randomness of the current pass; None where a deterministic model is asked without any."""
    try:
        return ambient()
    except RuntimeError:
        return None
