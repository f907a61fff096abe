"""Synthetic data of any shape and size: a random template per class plus Gaussian noise.

For tests and cost measurements. Example i has class i modulo `classes`; its input is the template of the class,
uniform in [0.25, 0.75] per value, plus noise, clipped to [0, 1]. For well separated templates, nearest-template
classification is optimal, and it is linear. Inputs are computed when read, so that memory does not grow with size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark.api import ConfigError, Dataset, DataSpec, Examples, SampleRandom, Splits, derive_seed, hookimpl
from benchmark.records.document import content_key


@dataclass(frozen=True)
class _Noisy:
    """Reader of examples `first`, `first` + 1, ... of the infinite sequence."""

    templates: Tensor  # (K, *S)
    seed: int
    noise: float
    first: int

    def __call__(self, positions: Tensor) -> Tensor:
        ids = positions + self.first
        rng = SampleRandom(derive_seed("synthetic", self.seed), ids)
        template = self.templates[ids % len(self.templates)]
        return (template + self.noise * rng.normal(*template.shape[1:], stream="noise")).clamp(0.0, 1.0)


@dataclass(frozen=True)
class Synthetic(Dataset):
    """A task of chosen size.

    shape: of one example, (C, H, W) or (D,). train, select, test: examples per split.
    noise: standard deviation of the noise around the templates. seed: of the templates and the noise.
    """

    shape: tuple[int, ...] = (1, 8, 8)
    classes: int = 10
    train: int = 1000
    select: int = 200
    test: int = 500
    noise: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if len(self.shape) not in (1, 3) or min(self.shape) < 1:
            raise ConfigError(f"dataset.shape is {list(self.shape)}; expected [C, H, W] for images or [D] for tables")
        if self.classes < 2 or min(self.train, self.select, self.test) < 1:
            raise ConfigError(
                f"dataset has {self.classes} classes and {self.train}, {self.select} and {self.test} examples; "
                "expected at least 2 classes and 1 example per split"
            )
        if self.noise < 0:
            raise ConfigError(f"dataset.noise is {self.noise}; expected a standard deviation of at least 0")

    def revision(self, root: Path) -> str:
        """Hash of the parameters, which determine everything."""
        return content_key([list(self.shape), self.classes, self.train, self.select, self.test, self.noise, self.seed])

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Consecutive ranges of the sequence as splits, so that ids never overlap."""
        templates = self.templates()

        def examples(first: int, count: int) -> Examples:
            ids = torch.arange(first, first + count)
            return Examples(ids, ids % self.classes, _Noisy(templates, self.seed, self.noise, first))

        return Splits(
            examples(0, self.train),
            examples(self.train, self.select),
            examples(self.train + self.select, self.test),
            # a template value is uniform on an interval of length 1/2, whose variance is 1/48
            DataSpec(self.shape, self.classes, (0.5,), (math.sqrt(1 / 48 + self.noise**2),)),
        )

    def templates(self) -> Tensor:
        """Noiseless example of each class, (K, *S) float32."""
        rng = SampleRandom(derive_seed("synthetic", self.seed), torch.arange(self.classes))
        return rng.uniform(*self.shape, stream="template", low=0.25, high=0.75)


@hookimpl
def benchmark_component() -> type[Dataset]:
    """Register the plugin."""
    return Synthetic
