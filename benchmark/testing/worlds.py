"""Small fixed systems for trying plugins in the contract suite; weights come from fixed seeds."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark import sampling
from benchmark.api import Component, Defense, Poison
from benchmark.data import DataSpec, Examples
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.system import System, straight_through
from benchmark.system.references import References
from benchmark.tasks.detection import Detection
from benchmark.tasks.segmentation import Segmentation
from benchmark.tasks.task import CLASSIFICATION, ONE_LABEL, DenseTask, Task
from benchmark.threat import Norm, Threat

__all__ = [
    "RADII",
    "SHAPE",
    "WIDE",
    "Spot",
    "World",
    "examples",
    "global_state",
    "same_state",
    "seeded",
    "tasks_of",
    "threat_of",
    "world",
    "world_of",
]

SHAPE = (3, 6, 6)
"""Shape of an example of the standard world: a small colour image, which every attack on images accepts."""

RADII = {Norm.linf: Fraction(1, 10), Norm.l2: Fraction(1), Norm.l1: Fraction(4), Norm.l0: Fraction(8)}
"""Radius per norm at which attacks can break some examples of the standard world."""

WIDE = {Norm.linf: Fraction(1, 2), Norm.l2: Fraction(5), Norm.l1: Fraction(50), Norm.l0: Fraction(108)}
"""Radii that allow nearly any change in the standard world."""


def _generator(*parts: object) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed("benchmark.testing", *parts))


class Net(nn.Module):
    """One smooth hidden layer; logits are multiples of 2**-10, so that a constant can be added without rounding.

    flat: the logits ignore the input. shift: added to every logit. bad: the logits are NaN.
    """

    def __init__(self, spec: DataSpec, *, flat: bool = False, shift: float = 0.0, bad: bool = False) -> None:
        super().__init__()
        size, hidden = math.prod(spec.shape), 16
        draw = _generator(spec.shape, spec.classes)
        self.spec, self.answer = spec, spec.task.answer_shape(1, spec.shape, spec.classes)[1:]
        values = math.prod(self.answer)
        self.first = nn.Parameter(torch.randn(size, hidden, generator=draw) * 2 / math.sqrt(size))
        self.second = nn.Parameter(torch.randn(hidden, values, generator=draw))
        self.bias = nn.Parameter(torch.randn(values, generator=draw) * 0.1)
        self.register_buffer("seen", torch.zeros(1))
        self.flat, self.shift, self.bad = flat, shift, bad

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *S) to (B, K), or to the output shape of the task."""
        hidden = torch.tanh((x.flatten(1) - 0.5) @ self.first)
        logits = hidden @ self.second * (0.0 if self.flat else 1.0) + self.bias
        exact: Tensor = straight_through(torch.round(logits.detach() * 1024) / 1024, logits)
        if self.bad:
            exact = exact * torch.nan
        if len(self.answer) == 1:
            return exact + self.shift
        exact = exact.reshape(-1, *self.answer)
        classes, boxes = exact[..., : self.spec.classes], exact[..., self.spec.classes :]
        return torch.cat([classes + self.shift, boxes / 16.0], 2)


@dataclass(frozen=True)
class Jitter(Defense):
    """Adds noise to the input at inference: a randomised system."""

    randomized = True

    def protect(self, model: nn.Module) -> nn.Module:
        """Model behind noise of standard deviation 0.05."""
        return _Jittered(model)


class _Jittered(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x + 0.05 * sampling.ambient().normal(*x.shape[1:], stream="jitter"))
        return logits


@dataclass(frozen=True)
class Spot(Poison):
    """The standard world's poison, for attacks that apply a trigger: marks the first feature, targets the label 0."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Return the examples unchanged: the world's systems are not trained."""
        return train, train.ids[:0]

    def trigger(self, x: Tensor) -> Tensor:
        """Inputs with the first feature at 1."""
        marked = x.clone()
        marked.flatten(1)[:, 0] = 1.0
        return marked

    def aim(self, y: Tensor) -> Tensor:
        """0 for all other labels."""
        return torch.where(y == 0, -1, 0)


@dataclass(frozen=True)
class World:
    """A system with a few examples. y: the predicted labels, except for the last example, which is misclassified."""

    system: System
    x: Tensor
    y: Tensor
    ids: Tensor

    @property
    def spec(self) -> DataSpec:
        """Data of this world."""
        return self.system.spec

    def rng(self, seed: int = 0) -> SampleRandom:
        """Randomness for the examples."""
        return SampleRandom(seed, self.ids.clone())

    @property
    def owned(self) -> References:
        """The attacker's own inputs, with the system's labels."""
        x = torch.rand(40, *self.spec.shape, generator=_generator("owned", self.spec.shape)).to(self.x.dtype)
        y = _said(self.spec, self.system.logits(x, SampleRandom(0, torch.arange(len(x)))))
        return References.of(Examples.of(torch.arange(len(x)), x, y), self.spec.classes)

    def rows(self, index: Tensor) -> World:
        """World with these examples only."""
        return World(self.system, self.x[index], self.y[index], self.ids[index])

    def double(self) -> World:
        """World in double precision; its system is changed in place."""
        return World(self.system.double(), self.x.double(), self.y, self.ids)


def _inputs(shape: tuple[int, ...], count: int, name: str = "x") -> Tensor:
    """Random inputs (count, *shape) in [0, 1], with some features at the ends."""
    return (torch.rand(count, *shape, generator=_generator(name, shape)) * 1.2 - 0.1).clamp(0.0, 1.0)


def world(
    shape: tuple[int, ...] = SHAPE,
    classes: int = 3,
    count: int = 6,
    *,
    flat: bool = False,
    shift: float = 0.0,
    bad: bool = False,
    randomized: bool = False,
    task: str = CLASSIFICATION,
) -> World:
    """A fixed world; see :class:`Net` for the options that make its model difficult.

    task: name of the task. Segmentation takes examples of any shape, detection images.
    """
    spec = DataSpec(shape, classes, task=_task(task, shape, classes))
    system = System(Net(spec, flat=flat, shift=shift, bad=bad), spec, (Jitter(),) if randomized else ())
    x = _inputs(shape, count)
    ids = torch.arange(count, dtype=torch.int64) * 7 + 3
    y = _said(spec, Net(spec, flat=flat)(x).detach())
    if count > 1:
        y[-1] = _misnamed(y[-1], classes)
    return World(system, x, y, ids)


def world_of(component: Component, *args: Any, **changes: Any) -> World:
    """World of a task that the plugin declares: the standard one, if it supports classification."""
    return world(*args, **{"task": tasks_of(component)[0], **changes})


def tasks_of(component: Component) -> list[str]:
    """Tasks that a plugin declares, classification first."""
    return sorted(component.tasks, key=lambda name: (name != CLASSIFICATION, name != Segmentation.name))


def _task(name: str, shape: tuple[int, ...], classes: int) -> Task:
    if name == Segmentation.name:
        return Segmentation()
    if name == Detection.name:
        return Detection(height=shape[1], width=shape[2], stride=2, objects=classes - 1)
    return ONE_LABEL


def _said(spec: DataSpec, output: Tensor) -> Tensor:
    """Labels for which an output is correct, (B,) int64 or (B, S, ...)."""
    if not isinstance(spec.task, DenseTask):
        return output.argmax(1)
    reading = spec.task.read(output.nan_to_num())
    return reading.round().long()[..., [0, 2, 3, 4, 5]] if reading.ndim == 3 else reading.long()


def _misnamed(y: Tensor, classes: int) -> Tensor:
    """Labels other than `y`, () or (S, ...), for a misclassified example."""
    if y.ndim < 2:
        return (y + 1) % classes
    label = y[:, :1]
    return torch.cat([torch.where(label > 0, label % (classes - 1) + 1, 0), y[:, 1:]], 1)


def examples(count: int = 40, shape: tuple[int, ...] = SHAPE, classes: int = 3) -> tuple[Examples, DataSpec]:
    """Labelled training examples in memory, with all labels present."""
    spec = DataSpec(shape, classes)
    y = torch.arange(count, dtype=torch.int64) % classes
    return Examples.of(torch.arange(count, dtype=torch.int64) * 3 + 1, _inputs(shape, count, "train"), y), spec


def threat_of(norm: Norm, shape: tuple[int, ...] = SHAPE, **changes: object) -> Threat:
    """Threat of that norm with a radius suited to the size of an example."""
    eps = RADII[norm] if math.prod(shape) >= RADII[Norm.l0] else min(RADII[norm], Fraction(2))
    return Threat(**{"norm": norm, "eps": eps, **changes})  # type: ignore[arg-type]


GlobalState = tuple[Tensor, object, object]


def global_state() -> GlobalState:
    """States of the generators of torch, NumPy and Python."""
    return torch.get_rng_state().clone(), np.random.get_state(), random.getstate()  # noqa: NPY002


def same_state(one: GlobalState, other: GlobalState) -> bool:
    """True if nothing was drawn between two states."""
    numpy_same = all(np.array_equal(a, b) for a, b in zip(one[1], other[1], strict=True))  # type: ignore[call-overload]
    return torch.equal(one[0], other[0]) and numpy_same and one[2] == other[2]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Set the global generators to a state of the suite's own inside the block, and restore them after it.

    The state differs from that of a plugin that seeds them with 0 or 42.
    """
    torch_state, numpy_state, python_state = global_state()
    own = derive_seed("benchmark.testing", "global", seed) % 2**32
    torch.manual_seed(own)
    np.random.seed(own)  # noqa: NPY002
    random.seed(own)
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)  # type: ignore[arg-type]  # noqa: NPY002
        random.setstate(python_state)  # type: ignore[arg-type]
