"""Adversarial weight perturbation (AWP). Wu, Xia & Wang, NeurIPS 2020, arXiv:2004.05884, section 4.2.

Whatever the losses before it in the stack are: after `adversarial_training` it is AT-AWP, TRADES-AWP or another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, Defense, Loss, SampleRandom, hookimpl

from ._training.passes import Undisturbed, reusing


@dataclass(frozen=True)
class WeightPerturbation(Defense):
    """Take the gradient of the loss at weights that one step of ascent has moved by a share of their norm.

    Difference from the paper's release: the weights are never changed and put back, which costs their last bits; the
    step is added for the passes alone. The adversarial examples of a batch are made once, for the weights as they are.

    gamma: length of the step of a tensor, as a share of its norm; the paper's is 0.005 for TRADES and 0.01 for plain
    adversarial training. warm_up: epochs without it.
    """

    neutral: ClassVar[Mapping[str, Any]] = {"gamma": 0.0}

    gamma: float = 0.005
    warm_up: int = 0

    def __post_init__(self) -> None:
        if self.gamma < 0.0 or self.warm_up < 0:
            raise ConfigError(
                f"weight_perturbation has gamma {self.gamma} and warm_up {self.warm_up}; expected a share of the "
                "weights' norm and a number of epochs, at least 0 each"
            )

    def at_epoch(self, epoch: int, epochs: int) -> Defense:
        """Without effect in the warm-up."""
        return replace(self, gamma=0.0) if epoch < self.warm_up else self

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The loss of the stack at the perturbed weights; twice its passes, less those of the attack."""
        if self.gamma == 0.0:
            return inner(model, batch)
        with reusing():
            offsets = perturbation(model, batch, inner, self.gamma)
            return inner(Undisturbed(model, offsets, keeps=True), batch)


def perturbation(model: nn.Module, batch: Batch, inner: Loss, gamma: float) -> dict[str, Tensor]:
    """Per weight tensor W of two and more dimensions: gamma ||W|| g / ||g||, where g is its gradient of the loss.

    Biases and the scales of normalisation have one dimension and stay, and so do the running statistics.
    """
    weights = {name: p for name, p in model.named_parameters() if p.ndim > 1 and p.requires_grad}
    with torch.enable_grad():
        loss = inner(Undisturbed(model), batch)
    slopes = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    offsets = {}
    for (name, weight), slope in zip(weights.items(), slopes, strict=True):
        size = torch.zeros(()) if slope is None else slope.norm()
        if slope is not None and bool(size > 0) and bool(torch.isfinite(size)):
            offsets[name] = gamma * weight.detach().norm() * slope / size
    return offsets


@hookimpl
def benchmark_component() -> type[WeightPerturbation]:
    """Register the plugin."""
    return WeightPerturbation
