"""Fine-pruning: channels dormant on clean inputs are pruned, then the rest is fine-tuned. Liu, Dolan-Gavitt & Garg,
RAID 2018, arXiv:1805.12185, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, Defense, Examples, Loss, Refused, hookimpl

ROWS = 512


@dataclass(frozen=True)
class FinePruning(Defense):
    """Prune the last convolution (or the last hidden layer if there is none) by mean activation on clean examples.

    Channels are pruned in ascending order, one in a hundred (at least one) at a time, while the accuracy on the clean
    examples falls by at most `drop`; the network is then fine-tuned on these examples with the pruned channels held at
    zero. The clean examples are those of the select split.

    drop: accuracy that may be lost to pruning. tune: whether to fine-tune, by the run's recipe.
    """

    drop: float = 0.1
    tune: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.drop <= 1.0:
            raise ConfigError(f"fine_pruning.drop is {self.drop}; expected a loss of accuracy between 0 and 1")

    def repair(self, model: nn.Module, clean: Examples, fit: Callable[[nn.Module, Examples, Loss], None]) -> None:
        """Prune in place, then fine-tune."""
        layer = pruned_layer(model)
        channels = prune(model, layer, clean, self.drop)
        if self.tune:

            def loss(network: nn.Module, batch: Batch) -> Tensor:
                silence(layer, channels)
                return F.cross_entropy(network(batch.x), batch.y)

            fit(model, clean, loss)
            silence(layer, channels)


def pruned_layer(model: nn.Module) -> nn.Conv2d | nn.Linear:
    """The last convolution, or the last linear layer but one if there is none.

    Raises:
        Refused: if there is neither.
    """
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if convolutions:
        return convolutions[-1]
    if len(linear) < 2:
        raise Refused(
            "defense.fine_pruning prunes channels of a convolution or a hidden layer, but the model has none; choose "
            "model=small_cnn or model=mlp"
        )
    return linear[-2]


@torch.no_grad()
def silence(layer: nn.Conv2d | nn.Linear, channels: Tensor) -> None:
    """Set the weights and biases of `channels` (int64) to zero, in place."""
    layer.weight[channels] = 0.0
    if layer.bias is not None:
        layer.bias[channels] = 0.0


def prune(model: nn.Module, layer: nn.Conv2d | nn.Linear, clean: Examples, drop: float) -> Tensor:
    """Prune in place; returns the pruned channels, int64, in order of pruning.

    Cost: one forward pass over the clean examples, and one per step of pruning.
    """
    model.eval()
    order = mean_activation(model, layer, clean).argsort(stable=True)
    step = max(1, len(order) // 100)
    floor = accuracy(model, clean) - drop
    kept = {name: value.detach().clone() for name, value in layer.state_dict().items()}
    cut = 0
    while cut + step < len(order):
        silence(layer, order[cut : cut + step])
        if accuracy(model, clean) < floor:
            layer.load_state_dict(kept)
            silence(layer, order[:cut])
            break
        cut += step
    return order[:cut]


@torch.no_grad()
def mean_activation(model: nn.Module, layer: nn.Module, clean: Examples) -> Tensor:
    """Mean of max(0, output) of a layer over examples and positions, (channels,) float64."""
    sums: list[Tensor] = []

    def add(_module: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> None:
        active = output.clamp_min(0.0).double()
        sums.append(active.flatten(2).mean(2).sum(0) if active.ndim > 2 else active.sum(0))

    handle = layer.register_forward_hook(add)
    try:
        for at in torch.arange(len(clean)).split(ROWS):
            model(clean.x(at))
    finally:
        handle.remove()
    return torch.stack(sums).sum(0) / len(clean)


@torch.no_grad()
def accuracy(model: nn.Module, examples: Examples) -> float:
    """Share of examples that a model classifies correctly."""
    parts = torch.arange(len(examples)).split(ROWS)
    return sum(int((model(examples.x(at)).argmax(1) == examples.y[at]).sum()) for at in parts) / len(examples)


@hookimpl
def benchmark_component() -> type[FinePruning]:
    """Register the plugin."""
    return FinePruning
