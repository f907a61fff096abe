"""Data exchanged between plugins: examples, splits, batches, and the shape of an example."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmark.tasks.task import ONE_LABEL, DenseTask, Task

if TYPE_CHECKING:  # reading configurations must not cost the import of torch
    from torch import Tensor


__all__ = ["Batch", "DataSpec", "Examples", "FeatureRules", "Splits"]


@dataclass(frozen=True)
class FeatureRules:
    """Constraints on an attacker who changes the D features of a table, in the units of the examples, [0, 1].

    fixed: (D,) bool, features that may not change. rising, falling: (D,) bool, features that may only grow, or shrink.
    low, high: (D,) range that may be reached; a feature that starts outside it may stay there.
    values: (D,) number of values of a discrete feature, k / (values - 1) for k = 0, 1, ...; 0 for real numbers.
    groups: positions of the features of one one-hot category: exactly one is 1, the others 0.
    """

    fixed: tuple[bool, ...]
    rising: tuple[bool, ...]
    falling: tuple[bool, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    values: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class DataSpec:
    """Shape, classes and normalisation of a dataset; values always lie in [0, 1].

    shape: (C, H, W) for images, (D,) for tabular data. classes: number of labels.
    mean, std: per channel (images) or per feature, for the normalisation inside models; a single value holds for all.
    class_names: display names; may be empty. task: what a system predicts. rules: constraints on the features of a
    table, which every region of a threat respects.
    """

    shape: tuple[int, ...]
    classes: int
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    class_names: tuple[str, ...] = ()
    task: Task = ONE_LABEL
    rules: FeatureRules | None = None

    @property
    def image(self) -> bool:
        """True if an example is an image (C, H, W)."""
        return len(self.shape) == 3


@dataclass(frozen=True)
class Examples:
    """A fixed, ordered list of labelled examples.

    ids: (N,) int64, unique in the dataset, never reused for another example. y: (N,) int64; (N, S) or (N, S, n) where
    an example has several sites, see :mod:`benchmark.tasks`.
    read: returns x (B, *S) float32 in [0, 1] for positions (B,) int64; may read from memory or disk.
    soft: (N, K) float32 label distributions that training uses in place of `y`, or None.
    """

    ids: Tensor
    y: Tensor
    read: Callable[[Tensor], Tensor] = field(repr=False)
    soft: Tensor | None = None

    @classmethod
    def of(cls, ids: Tensor, x: Tensor, y: Tensor, soft: Tensor | None = None) -> Examples:
        """Examples held in memory: `x` (N, *S) is float in [0, 1], or uint8 that stands for x / 255."""
        return cls(ids, y, _Stored(x), soft)

    def __len__(self) -> int:
        return len(self.ids)

    def x(self, positions: Tensor | None = None) -> Tensor:
        """Inputs at `positions` (B,) int64, all by default: (B, *S) float32 in [0, 1]."""
        import torch

        return self.read(torch.arange(len(self)) if positions is None else positions)

    def take(self, positions: Tensor) -> Examples:
        """Select the examples at `positions` (B,) int64, in that order; reading stays lazy."""
        soft = None if self.soft is None else self.soft[positions]
        return Examples(self.ids[positions], self.y[positions], _Chosen(self.read, positions), soft)

    def changed(self, positions: Tensor, *, x: Tensor | None = None, y: Tensor | None = None) -> Examples:
        """Copy with other inputs (M, *S), labels (M,), or both, at `positions` (M,)."""
        import torch

        labels, soft = self.y, self.soft
        if y is not None:
            labels = labels.index_copy(0, positions, y)
            soft = None if soft is None else soft.index_copy(0, positions, _one_hot(y, soft))
        places = torch.full((len(self),), -1).index_copy(0, positions, torch.arange(len(positions)))
        return Examples(self.ids, labels, self.read if x is None else _Overlaid(self, places, x), soft)

    def added(self, ids: Tensor, x: Tensor, y: Tensor) -> Examples:
        """Copy with new examples appended: their ids (M,), inputs (M, *S) and labels (M,)."""
        import torch

        soft = None if self.soft is None else torch.cat([self.soft, _one_hot(y, self.soft)])
        places = torch.cat([torch.full((len(self),), -1), torch.arange(len(x))])
        return Examples(torch.cat([self.ids, ids]), torch.cat([self.y, y]), _Overlaid(self, places, x), soft)

    def difference(self, other: Examples) -> str:
        """First difference between two lists of examples, in a few words; empty if they are identical bit for bit."""
        import torch

        if not torch.equal(self.ids, other.ids):
            return "which rows there are, or their order"
        if not torch.equal(self.y, other.y):
            return "labels"
        parts = torch.arange(len(self)).split(COMPARED)
        return "" if all(torch.equal(self.x(at), other.x(at)) for at in parts) else "inputs"

    def digest(self) -> str:
        """sha256 over ids and labels, which identifies the examples and their order."""
        sha = hashlib.sha256()
        sha.update(self.ids.numpy().astype("<i8").tobytes())
        sha.update(self.y.numpy().astype("<i8").tobytes())
        return sha.hexdigest()


COMPARED = 512
"""Number of examples compared at a time."""


def _one_hot(y: Tensor, like: Tensor) -> Tensor:
    """One-hot distributions of the labels `y` (M,), (M, K) in the dtype of `like` (N, K)."""
    import torch

    return torch.nn.functional.one_hot(y, like.shape[1]).to(like.dtype)


@dataclass(frozen=True)
class _Overlaid:
    """Reader of row `places[i]` of `x` (M, *S) for example i, or of `base` if `places[i]` (N,) is -1."""

    base: Examples
    places: Tensor
    x: Tensor

    def __call__(self, positions: Tensor) -> Tensor:
        place = self.places[positions]
        own = place >= 0
        read = self.base.x(positions.masked_fill(own, 0)).clone()
        read[own] = self.x[place[own]].to(read.dtype)
        return read


@dataclass(frozen=True)
class _Stored:
    """Reader from a tensor in memory."""

    values: Tensor

    def __call__(self, positions: Tensor) -> Tensor:
        x = self.values[positions].contiguous()  # models may call view, whatever the order in a file
        return x.float() if x.is_floating_point() else x.float() / 255.0


@dataclass(frozen=True)
class _Chosen:
    """Reader through a list of positions."""

    read: Callable[[Tensor], Tensor]
    positions: Tensor

    def __call__(self, positions: Tensor) -> Tensor:
        return self.read(self.positions[positions])


@dataclass(frozen=True)
class Splits:
    """A loaded dataset. `train` is fitted on, `select` chooses the epoch and calibrates, `test` is attacked."""

    train: Examples
    select: Examples
    test: Examples
    spec: DataSpec


@dataclass(frozen=True)
class Batch:
    """One training batch.

    ids: (B,) int64. x: (B, *S) float32 in [0, 1]. y: (B,) int64. soft: (B, K) float32 or None.
    task: the task that defines the loss, where an example has several sites; y is then (B, S) or (B, S, n).
    """

    ids: Tensor
    x: Tensor
    y: Tensor
    soft: Tensor | None = None
    task: DenseTask | None = None
