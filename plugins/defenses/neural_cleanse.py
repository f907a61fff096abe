"""Neural Cleanse: a backdoor is a class reached by a small change from all inputs. Wang et al., IEEE S&P 2019,
doi.org/10.1109/SP.2019.00031.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, Defense, Examples, Loss, hookimpl

ROWS = 200
"""Number of clean examples for which a trigger is optimised."""
FACTOR, PATIENCE = 2.0, 5
"""Successful steps until the weight of the mask's norm is doubled, and failures until it is divided by 2^1.5."""


@dataclass(frozen=True)
class NeuralCleanse(Defense):
    """Reverse-engineer a trigger per class, treat classes with an unusually small one as targets, and unlearn it.

    A trigger is a mask m and a pattern p of small L1 norm of m such that all clean examples (1 - m) x + m p are
    assigned to the class. Classes whose norm is more than `threshold` median absolute deviations below the median are
    targets (section IV); the network is then fine-tuned by the run's recipe on the clean examples, every fifth with the
    trigger and its true label (section VI-C). The clean examples are those of the select split. Without a target
    nothing is changed.

    threshold: of the anomaly index. steps, step_size: of Adam, per class. success: share of examples that must be
    assigned to the class before the mask is reduced. weight: initial weight of the mask's norm.
    """

    threshold: float = 2.0
    steps: int = 200
    step_size: float = 0.1
    success: float = 0.99
    weight: float = 1e-3

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.step_size > 0.0 or not self.weight > 0.0:
            raise ConfigError(
                f"neural_cleanse has steps {self.steps}, step_size {self.step_size} and weight {self.weight}; expected "
                "at least 1 step, a positive step and a positive weight"
            )
        if not 0.0 < self.success <= 1.0:
            raise ConfigError(f"neural_cleanse.success is {self.success}; expected a share in (0, 1]")

    def repair(self, model: nn.Module, clean: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Reverse-engineer triggers, and unlearn those of the target classes."""
        model.eval()
        x = clean.x(torch.arange(min(ROWS, len(clean))))
        with torch.no_grad():
            classes = model(x[:1]).shape[1]
        found = [self.trigger_of(model, x, label) for label in range(classes)]
        norms = torch.stack([mask.abs().sum() for mask, _ in found]).double()
        targets = (anomaly_index(norms) > self.threshold).nonzero().flatten()
        if not len(targets):
            return
        marked = torch.arange(0, len(clean), 5)
        inputs = clean.x(marked)
        for place, label in enumerate(targets.tolist()):
            mask, pattern = found[label]
            rows = torch.arange(place, len(marked), len(targets))
            inputs[rows] = (1.0 - mask) * inputs[rows] + mask * pattern
        fit(model, clean.changed(marked, x=inputs), _cross_entropy)

    def trigger_of(self, model: nn.Module, x: Tensor, label: int) -> tuple[Tensor, Tensor]:
        """Mask (1, H, W) or (D,) and pattern (*S) that lead `x` (B, *S) to a label; see :func:`reversed_trigger`."""
        return reversed_trigger(
            model, x, label, steps=self.steps, step_size=self.step_size, success=self.success, weight=self.weight
        )


def _cross_entropy(network: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(network(batch.x), batch.y)


def reversed_trigger(
    model: nn.Module, x: Tensor, label: int, *, steps: int, step_size: float, success: float, weight: float
) -> tuple[Tensor, Tensor]:
    """Smallest mask, and its pattern, that leads enough of `x` (B, *S) to `label`; otherwise the last ones.

    Both are (tanh(v) + 1) / 2 of variables v initialised at 0. One forward and one backward pass over `x` per step.
    """
    shape = (1, *x.shape[2:]) if x.ndim > 2 else x.shape[1:]
    mask_v, pattern_v = torch.zeros(shape), torch.zeros(x.shape[1:])
    optimizer = torch.optim.Adam([mask_v.requires_grad_(), pattern_v.requires_grad_()], lr=step_size, betas=(0.5, 0.9))
    wanted = torch.full((len(x),), label)
    best, kept, ups, downs = float("inf"), (mask_v, pattern_v), 0, 0
    for _ in range(steps):
        with torch.enable_grad():
            mask, pattern = (mask_v.tanh() + 1.0) / 2.0, (pattern_v.tanh() + 1.0) / 2.0
            logits = model((1.0 - mask) * x + mask * pattern)
            size = mask.abs().sum()
            loss = F.cross_entropy(logits, wanted) + weight * size
            gradients = torch.autograd.grad(loss, [mask_v, pattern_v])
        reached = float((logits.detach().argmax(1) == label).float().mean())
        if reached >= success and float(size.detach()) < best:
            best, kept = float(size.detach()), (mask.detach(), pattern.detach())
        ups, downs = (ups + 1, 0) if reached >= success else (0, downs + 1)
        if ups >= PATIENCE:
            weight, ups = weight * FACTOR, 0
        elif downs >= PATIENCE:
            weight, downs = weight / FACTOR**1.5, 0
        mask_v.grad, pattern_v.grad = gradients
        optimizer.step()
    if best == float("inf"):
        kept = ((mask_v.detach().tanh() + 1.0) / 2.0, (pattern_v.detach().tanh() + 1.0) / 2.0)
    return kept


def anomaly_index(norms: Tensor) -> Tensor:
    """Deviations of each of `norms` (K,) float64 below the median, (K,); 0 if all norms are equal.

    A deviation is 1.4826 times the median absolute deviation. The median of an even number is the mean of the middle
    two.
    """
    below = norms.quantile(0.5) - norms
    deviation = 1.4826 * below.abs().quantile(0.5)
    return below / deviation if float(deviation) > 0.0 else torch.zeros_like(norms)


@hookimpl
def benchmark_component() -> type[NeuralCleanse]:
    """Register the plugin."""
    return NeuralCleanse
