"""Data that travels between plugins: examples, splits, batches, and what one example looks like."""

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
    """Rules for an attacker who changes the D features of a table, in the units of the examples, [0, 1].

    fixed: (D,) features that stay as they are. rising, falling: (D,) features that may only grow, or only shrink.
    low, high: (D,) the range that may be reached; a feature that lies outside of it may stay there.
    values: (D,) how many values a feature has, k / (values - 1), as whole numbers have; 0 for real numbers.
    groups: positions of the features that are one category, of which exactly one is 1 and the others 0.
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
    """The shape, classes and normalisation of a dataset; values always lie in [0, 1].

    shape: (C, H, W) for images, (D,) for tabular data. classes: the number of labels.
    mean, std: per channel (images) or per feature, for the normalisation inside models; one value serves all.
    class_names: for people; may be empty. task: what is answered about an example. rules: of the features of a table;
    the threat's region keeps to them.
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
        """True if one example is an image (C, H, W)."""
        return len(self.shape) == 3


@dataclass(frozen=True)
class Examples:
    """A fixed, ordered list of labelled examples.

    ids: (N,) int64, unique in the dataset, never reused for another example. y: (N,) int64; (N, S) or (N, S, n) where
    an example has several sites, see :mod:`benchmark.tasks`.
    read: gives x (B, *S) float32 in [0, 1] for positions (B,) int64; may read from memory or disk.
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
        """Inputs at `positions` (B,) int64, of shape (B, *S) float32 in [0, 1]; all of them by default."""
        import torch

        return self.read(torch.arange(len(self)) if positions is None else positions)

    def take(self, positions: Tensor) -> Examples:
        """Select the examples at `positions` (B,) int64, in that order; they are read lazily, as before."""
        soft = None if self.soft is None else self.soft[positions]
        return Examples(self.ids[positions], self.y[positions], _Chosen(self.read, positions), soft)

    def changed(self, positions: Tensor, *, x: Tensor | None = None, y: Tensor | None = None) -> Examples:
        """The examples with other inputs (M, *S), labels (M,), or both, at `positions` (M,); these stay as they are."""
        import torch

        labels, soft = self.y, self.soft
        if y is not None:
            labels = labels.index_copy(0, positions, y)
            soft = None if soft is None else soft.index_copy(0, positions, _one_hot(y, soft))
        places = torch.full((len(self),), -1).index_copy(0, positions, torch.arange(len(positions)))
        return Examples(self.ids, labels, self.read if x is None else _Overlaid(self, places, x), soft)

    def added(self, ids: Tensor, x: Tensor, y: Tensor) -> Examples:
        """The examples, and after them new ones: ids (M,) of their own, inputs (M, *S), labels (M,)."""
        import torch

        soft = None if self.soft is None else torch.cat([self.soft, _one_hot(y, self.soft)])
        places = torch.cat([torch.full((len(self),), -1), torch.arange(len(x))])
        return Examples(torch.cat([self.ids, ids]), torch.cat([self.y, y]), _Overlaid(self, places, x), soft)

    def difference(self, other: Examples) -> str:
        """In which respect two lists of examples differ, in a few words; empty where they are the same, bit for bit."""
        import torch

        if not torch.equal(self.ids, other.ids):
            return "which rows there are, or their order"
        if not torch.equal(self.y, other.y):
            return "labels"
        parts = torch.arange(len(self)).split(COMPARED)
        return "" if all(torch.equal(self.x(at), other.x(at)) for at in parts) else "inputs"

    def digest(self) -> str:
        """sha256 over ids and labels: which examples these are, and in which order."""
        sha = hashlib.sha256()
        sha.update(self.ids.numpy().astype("<i8").tobytes())
        sha.update(self.y.numpy().astype("<i8").tobytes())
        return sha.hexdigest()


COMPARED = 512
"""Number of examples that are compared at a time."""


def _one_hot(y: Tensor, like: Tensor) -> Tensor:
    """Label distributions for the labels `y` (M,), in the type of `like` (N, K), of shape (M, K)."""
    import torch

    return torch.nn.functional.one_hot(y, like.shape[1]).to(like.dtype)


@dataclass(frozen=True)
class _Overlaid:
    """Reads rows of `x` (M, *S) where `places` (N,) says so, and examples of `base` elsewhere (-1)."""

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
    """Reads from a tensor in memory."""

    values: Tensor

    def __call__(self, positions: Tensor) -> Tensor:
        x = self.values[positions].contiguous()  # models may call view, whatever the order in a file
        return x.float() if x.is_floating_point() else x.float() / 255.0


@dataclass(frozen=True)
class _Chosen:
    """Reads through a list of positions."""

    read: Callable[[Tensor], Tensor]
    positions: Tensor

    def __call__(self, positions: Tensor) -> Tensor:
        return self.read(self.positions[positions])


@dataclass(frozen=True)
class Splits:
    """A loaded dataset. `train` fits, `select` chooses between epochs and calibrates, `test` is attacked."""

    train: Examples
    select: Examples
    test: Examples
    spec: DataSpec


@dataclass(frozen=True)
class Batch:
    """One training batch.

    ids: (B,) int64. x: (B, *S) float32 in [0, 1]. y: (B,) int64. soft: (B, K) float32 or None.
    task: where an example has several sites, the one whose loss is taken; y is then (B, S) or (B, S, n).
    """

    ids: Tensor
    x: Tensor
    y: Tensor
    soft: Tensor | None = None
    task: DenseTask | None = None
