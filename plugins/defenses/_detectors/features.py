"""Hidden features of a classifier: the inputs of its last layers with weights, read during one pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.api import DataSpec, Refused, SampleRandom, using

from .attached import Attached, evaluated

__all__ = ["Hidden", "Reader", "features", "hidden_layers", "pooled"]

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Hidden:
    """Layers of a classifier whose inputs are hidden features, in order of depth.

    names: paths inside the classifier; empty if there is no hidden layer, and then the logits are used.
    sizes: D of each layer's features.
    grid: maps are averaged over at most grid x grid cells.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    grid: int


class Reader(Attached):
    """A classifier with a detector that reads its hidden features."""

    def __init__(self, model: nn.Module, hidden: Hidden) -> None:
        super().__init__(model)
        self.hidden = hidden

    @property
    def last(self) -> nn.Module | None:
        """The last layer with weights; None if no hidden layer precedes it."""
        return self.model.get_submodule(self.hidden.names[-1]) if self.hidden.names else None


def hidden_layers(classifier: nn.Module, spec: DataSpec, *, layers: int = 1, grid: int = 1) -> Hidden:
    """At most `layers` of the layers used in one pass, evenly spaced and including the last one.

    The first layer with weights is excluded, since its input is the example.
    """
    weighted = {name: module for name, module in classifier.named_modules() if isinstance(module, WEIGHTED)}
    rng = SampleRandom(0, torch.zeros(1, dtype=torch.int64))
    with evaluated(classifier), using(rng), _reading(list(weighted.values())) as read:
        logits = classifier(torch.zeros(1, *spec.shape))
    called = {name: calls[0] for name, calls in zip(weighted, read, strict=True) if calls}
    names = list(called)[1:]
    chosen = names
    if len(names) > layers:
        chosen = [names[len(names) - 1 - place * len(names) // layers] for place in reversed(range(layers))]
    sizes = [pooled(called[name], grid).shape[1] for name in chosen] or [logits.shape[1]]
    return Hidden(tuple(chosen), tuple(sizes), grid)


def features(model: nn.Module, part: Reader, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Hidden features per layer, (B, D) each, and the logits (B, K), from one pass.

    Args:
        model: the defended model, with `part` inside.
        x: (B, *S).

    Raises:
        Refused: if the stack passes more or fewer inputs than examples to the classifier at once.
    """
    with _reading([part.model.get_submodule(name) for name in part.hidden.names]) as read:
        logits: Tensor = model(x)
    found = [_averaged(calls, len(x), part.hidden.grid) for calls in read]
    return found or [logits], logits


@contextlib.contextmanager
def _reading(layers: Sequence[nn.Module]) -> Iterator[list[list[Tensor]]]:
    """Record the inputs of each layer's calls inside the block."""
    read: list[list[Tensor]] = [[] for _ in layers]

    def keep(calls: list[Tensor], given: tuple[Tensor, ...]) -> None:
        calls.append(given[0])

    handles = [
        layer.register_forward_pre_hook(lambda _, given, calls=calls: keep(calls, given))
        for layer, calls in zip(layers, read, strict=True)
    ]
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()


def _averaged(calls: list[Tensor], count: int, grid: int) -> Tensor:
    """Mean over the calls of a layer, each map averaged over its cells, (B, D)."""
    if not calls or any(len(call) != count for call in calls):
        rows = ", ".join(str(len(call)) for call in calls) or "no"
        raise Refused(
            f"a detector reads the hidden features of {count} examples, but a defense of the stack passes {rows} "
            "inputs to the classifier; leave that defense or the detector out"
        )
    means = [pooled(call, grid) for call in calls]
    return means[0] if len(means) == 1 else torch.stack(means).mean(0)


def pooled(value: Tensor, grid: int) -> Tensor:
    """Maps (B, C, H, W) averaged over at most grid x grid cells, (B, D); other features flattened."""
    if value.ndim != 4:
        return value.flatten(1)
    return F.adaptive_avg_pool2d(value, (min(grid, value.shape[2]), min(grid, value.shape[3]))).flatten(1)
