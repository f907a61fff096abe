"""A model preceded by an input transformation, and the inputs that such transformations accept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

from benchmark.api import DataSpec, Refused

__all__ = ["Behind", "inside", "refuse_other_than_images"]

M = TypeVar("M", bound=nn.Module)


class Behind(nn.Module):
    """x -> model(transform(x)). transform: (B, *S) to (B, *S), independently per row."""

    def __init__(self, model: nn.Module, transform: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.transform = model, transform

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *S) to logits (B, K)."""
        logits: Tensor = self.model(self.transform(x))
        return logits


def inside(model: nn.Module, kind: type[M]) -> M:
    """The module of class `kind` that a defense has built into a model, whatever other defenses wrap it."""
    return next(module for module in model.modules() if isinstance(module, kind))


def refuse_other_than_images(spec: DataSpec, owner: str, least: int = 1) -> None:
    """Refuse examples that are not images of at least `least` pixels a side.

    Raises:
        Refused: naming `owner`.
    """
    if not spec.image or min(spec.shape[1:]) < least:
        size = "" if least == 1 else f" of at least {least}x{least} pixels"
        raise Refused(
            f"{owner} needs images (C, H, W){size}, but the dataset's examples have shape {spec.shape}; choose a "
            "dataset of such images, or another defense"
        )
