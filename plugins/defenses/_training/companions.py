"""Networks that a defense trains before the training itself and freezes: teachers, helpers, sources of examples."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import Batch, Examples, Loss

from .passes import Tempered

__all__ = ["Fit", "fitted", "plain_loss"]

Fit = Callable[[nn.Module, Examples, Loss], None]


def plain_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy, with soft labels if there are any."""
    return F.cross_entropy(model(batch.x), batch.y if batch.soft is None else batch.soft)


def fitted(model: nn.Module, train: Examples, fit: Fit, temperature: float = 1.0) -> nn.Module:
    """A copy of `model` trained by the run's recipe without defenses at a temperature; frozen, in evaluation mode."""
    net = copy.deepcopy(model)
    fit(net, train, lambda module, batch: plain_loss(Tempered(module, temperature), batch))
    return net.eval().requires_grad_(False)
