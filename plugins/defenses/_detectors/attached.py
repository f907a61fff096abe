"""Attachment of a detector's fitted state to the classifier, so that one file holds both."""

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
"""Examples per pass while a detector is fitted; a multiple of the row count to which passes are padded."""


class Attached(nn.Module):
    """A classifier with the fitted state of a detector; the logits are those of the classifier.

    Subclasses hold what the detector fits in buffers, of shapes known to `build`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *S) to (B, K)."""
        logits: Tensor = self.model(x)
        return logits


def attached(model: nn.Module, kind: type[Found]) -> Found:
    """The attached part of type `kind`, anywhere inside a defended model.

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
    """Evaluation mode without gradients inside the block; each module's mode is restored afterwards."""
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
        compute: from x (B, *S) to (B, ...).
        name: of the detector; randomised defenses draw by it and by the example ids.
    """
    parts = []
    with evaluated(model):
        for at in torch.arange(len(train)).split(ROWS):
            x, rng = train.x(at), SampleRandom(derive_seed(name), train.ids[at])
            with using(padded_random(rng)):
                parts.append(compute(padded(x))[: len(x)])
    return torch.cat(parts)


def asked_again(model: nn.Module, x: Tensor, owners: Tensor) -> Tensor:
    """Logits (M, K) of further inputs; each uses the random stream of the row of the current pass that it belongs to.

    Args:
        x: (M, *S).
        owners: (M,) int64, rows of the current pass.
    """
    rng = _ambient()
    with contextlib.nullcontext() if rng is None else using(padded_random(rng.rows(owners))):
        logits: Tensor = model(padded(x))
    return logits[: len(x)]


def _ambient() -> SampleRandom | None:
    """The random streams of the current pass; None if a deterministic model is evaluated without any."""
    try:
        return ambient()
    except RuntimeError:
        return None
