"""STRIP: a trigger keeps the prediction fixed under overlays. Gao et al., ACSAC 2019, arXiv:1902.06531."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.api import ConfigError, DataError, DataSpec, Defense, Examples, Loss, clipped, hookimpl


@dataclass(frozen=True)
class Strip(Defense):
    """Detect inputs whose prediction hardly changes when clean images are added to them.

    The score is minus the mean entropy, in bits, of the predictions for clip(x + o) over the overlays o: the first
    clean examples of the select split, which are stored with the weights. Differences from the paper: the same overlays
    for every input, and the threshold is the core's quantile of clean scores, not that of a fitted normal distribution.

    overlays: their number; a score costs as many forward passes.
    """

    detects = True

    overlays: int = 64

    def __post_init__(self) -> None:
        if self.overlays < 1:
            raise ConfigError(f"strip.overlays is {self.overlays}; expected at least 1")

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Attach buffers for the overlays to the model."""
        return Overlaid(model)

    def repair(self, model: nn.Module, clean: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Store the overlays; nothing is trained."""
        at = torch.arange(min(self.overlays, len(clean)))
        holder = overlaid(model)
        holder.overlays = clean.x(at).to(next(holder.model.parameters()))

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        """Negative mean entropy in bits, (B,)."""
        return -mean_entropy(model, x, overlaid(model).overlays)


class Overlaid(nn.Module):
    """A model with overlays (N, *S), whose shape is taken from the loaded state."""

    overlays: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("overlays", torch.empty(0))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *S) to (B, K)."""
        logits: Tensor = self.model(x)
        return logits

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        stored = state_dict.get(f"{prefix}overlays")
        if stored is not None:
            self.overlays = torch.empty_like(stored, device=self.overlays.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def overlaid(model: nn.Module) -> Overlaid:
    """The part of a model that holds the overlays.

    Raises:
        DataError: if there is none.
    """
    for module in model.modules():
        if isinstance(module, Overlaid):
            return module
    raise DataError("defense.strip found no overlays in this model; train the system again with strip in its stack")


def mean_entropy(model: nn.Module, x: Tensor, overlays: Tensor) -> Tensor:
    """Entropy in bits of the predictions for clip(x + o), averaged over the overlays o (N, *S), (B,) float32."""
    total = torch.zeros(len(x), device=x.device)
    for overlay in overlays:
        logs = model(clipped(x + overlay)).float().log_softmax(1)
        total = total - (logs.exp() * logs).sum(1)
    return total / (math.log(2.0) * max(1, len(overlays)))


@hookimpl
def benchmark_component() -> type[Strip]:
    """Register the plugin."""
    return Strip
