"""Model and data in memory as parts of a cell, whose key depends on their content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import Dataset, Model
from benchmark.data import DataSpec, Examples, Splits
from benchmark.errors import ConfigError
from benchmark.system.adapted import Adapted, AnswerRule, InputRule
from benchmark.system.weights import copied

__all__ = ["GivenData", "GivenModel"]

ASKED = 16
"""Number of examples whose scores are part of a model's identity."""


@dataclass(frozen=True)
class GivenModel(Model):
    """A fitted model in memory; made by :meth:`of`.

    name: display name. weights: sha256 of its state, "" without one. scores: sha256 of its scores on the first
    examples, which tells models without a state apart. answers, output, layout, scale, shift: conversion of inputs and
    outputs.
    """

    held: ClassVar[tuple[str, str]] = ("model", "given")
    reviewed = False

    name: str
    weights: str
    scores: str
    answers: str
    output: str
    layout: str
    scale: tuple[float, ...]
    shift: tuple[float, ...]
    adapted: Adapted | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        name: str,
        asked: Callable[[Any], object],
        inputs: InputRule,
        answers: AnswerRule,
        x: Tensor,
        *,
        arrays: bool,
    ) -> GivenModel:
        """Wrap a model, in evaluation mode if it has one; a module is copied, so that the original is not changed.

        Args:
            x: (N, *S) in [0, 1], on whose first rows it is tried.

        Raises:
            ConfigError: if its weights are not tensors. SystemFault: if its output is not as declared.
        """
        adapted = Adapted(_own(asked), inputs, answers, arrays=arrays).eval()
        with torch.no_grad(), torch.random.fork_rng():
            scores = adapted(x[:ASKED]).double().cpu()
        state = adapted.state_dict()
        made = cls(
            name=name,
            weights=_digest(state) if state else "",
            scores=_digest({"scores": scores}),
            answers=answers.kind.value,
            output="" if answers.output is None else repr(answers.output),
            layout=inputs.layout,
            scale=inputs.scale,
            shift=inputs.shift,
        )
        object.__setattr__(made, "adapted", adapted)
        return made

    def classes(self, x: Tensor) -> int:
        """Number of classes, read from its output on `x` (B, *S)."""
        assert self.adapted is not None
        with torch.no_grad(), torch.random.fork_rng():
            return int(self.adapted(x).shape[1])

    def build(self, spec: DataSpec) -> nn.Module:
        """The model itself."""
        mine = self.adapted
        assert mine is not None
        return Adapted(_own(mine.asked), mine.inputs, mine.answers, arrays=mine.arrays)

    def unreviewed(self) -> str:
        """Display name of the model's code."""
        return f"{self.name}, which was given in memory"

    def learn(self, module: nn.Module, train: Examples, spec: DataSpec, seed: int) -> None:
        """Do nothing: the model is fitted."""


def _own(asked: Callable[[Any], object]) -> Callable[[Any], object]:
    """Copy of a module; any other callable unchanged."""
    if not isinstance(asked, nn.Module):
        return asked
    odd = [name for name, value in asked.state_dict().items() if not isinstance(value, Tensor)]
    if odd:
        raise ConfigError(
            f"the model keeps {odd[0]} in its state, which is not a tensor, so its weights cannot be stored; give a "
            "function that calls it, such as lambda x: model(x)"
        )
    try:
        return copied(asked)
    except Exception as error:
        raise ConfigError(
            f"the model cannot be copied ({type(error).__name__}: {error}); give a function that calls it, such as "
            "lambda x: model(x)"
        ) from error


@dataclass(frozen=True)
class GivenData(Dataset):
    """Examples in memory; made by :meth:`of`. name: display name. sha256: of all inputs and labels."""

    held: ClassVar[tuple[str, str]] = ("dataset", "given")

    name: str
    sha256: str
    splits: Splits | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, name: str, parts: dict[str, tuple[Tensor, Tensor]], spec: DataSpec) -> GivenData:
        """Build the splits from (x, y) by name; ids number the examples of test, then train, then select."""
        begin = 0
        splits: dict[str, Examples] = {}
        digested: dict[str, Tensor] = {}
        empty = torch.empty(0, *spec.shape), torch.empty(0, dtype=torch.int64)
        for part in ("test", "train", "select"):
            x, y = parts.get(part, empty)
            splits[part] = Examples.of(torch.arange(begin, begin + len(y)), x, y)
            digested |= {f"x_{part}": x, f"y_{part}": y}
            begin += len(y)
        made = cls(name, _digest(digested))
        object.__setattr__(made, "splits", Splits(**splits, spec=spec))
        return made

    def revision(self, root: Path) -> str:
        """sha256 of the content."""
        return self.sha256

    def load(self, root: Path, *, offline: bool) -> Splits:
        """Splits in memory."""
        assert self.splits is not None
        return self.splits


def _digest(tensors: dict[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and values."""
    sha = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        plain = value.detach().cpu().contiguous()
        sha.update(f"{name} {plain.dtype} {tuple(plain.shape)};".encode())
        sha.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    return sha.hexdigest()
