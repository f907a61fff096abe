"""Models of other libraries as torch modules: their file, in their portable format, is the module's state."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.api import ConfigError, DataError, Examples, MissingPackage

Answer = Callable[[np.ndarray], np.ndarray]
"""From inputs (B, *S) float32 to scores (B, K), or (B,) for the second of two classes."""

MEBIBYTE = 2**20
LEAST = 1e-12
"""Lower bound of probabilities, since the logarithm of 0 is not finite."""


class Portable(nn.Module):
    """A file of at most `room` bytes as a buffer, and its predictions; scores are 0 before there is one.

    content: (room,) uint8, the file padded with zeros. length: () int64, of the file.
    opened: makes the prediction function from the file; a module-level function, so that it can be pickled.
    """

    content: Tensor
    length: Tensor

    def __init__(self, room: int, classes: int, opened: Callable[[bytes], Answer]) -> None:
        super().__init__()
        self.register_buffer("content", torch.zeros(room, dtype=torch.uint8))
        self.register_buffer("length", torch.zeros((), dtype=torch.int64))
        self.classes, self.opened = classes, opened
        self._answer: Answer | None = None

    def take(self, file: bytes) -> None:
        """Store a file.

        Raises:
            DataError: if it is too large.
        """
        if len(file) > len(self.content):
            raise DataError(
                f"the trained model is a file of {len(file) / MEBIBYTE:.1f} MiB, but model.mebibytes allows "
                f"{len(self.content) / MEBIBYTE:g}; increase it, or choose a smaller model"
            )
        self.content.zero_()
        self.content[: len(file)] = torch.frombuffer(bytearray(file), dtype=torch.uint8).to(self.content.device)
        self.length.fill_(len(file))
        self._answer = None

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, K) float32 for `x` (B, *S), without gradient."""
        if int(self.length) == 0:
            return torch.zeros(len(x), self.classes, device=x.device)
        if self._answer is None:
            self._answer = self.opened(self.content[: int(self.length)].cpu().numpy().tobytes())
        said = np.asarray(self._answer(x.detach().float().cpu().numpy()))
        return two_columns(torch.from_numpy(said.astype(np.float32)), self.classes).to(x.device)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_answer": None}

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._answer = None


def two_columns(scores: Tensor, classes: int) -> Tensor:
    """Scores (B, K); for scores of the second of two classes only, 0 is added as the first."""
    if scores.ndim == 2 and scores.shape[1] == classes:
        return scores
    flat = scores.reshape(len(scores), -1)
    if classes != 2 or flat.shape[1] != 1:
        raise DataError(f"the model gives scores of shape {tuple(flat.shape)}; expected ({len(scores)}, {classes})")
    return torch.cat([torch.zeros_like(flat), flat], 1)


def logarithms(probabilities: np.ndarray) -> np.ndarray:
    """Log-probabilities: scores whose softmax is `probabilities`."""
    found: np.ndarray = np.log(np.maximum(probabilities.astype(np.float64), LEAST))
    return found


def table_of(train: Examples, classes: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) float32 and labels (N,).

    Raises:
        DataError: if a class has no training example.
    """
    y = train.y.numpy()
    missing = sorted(set(range(classes)) - set(y.tolist()))
    if missing:
        raise DataError(f"no training example has the label {missing[0]}; model.{name} needs all classes")
    return train.x().flatten(1).numpy().copy(), y


def checked(args: Mapping[str, Any], taken: Mapping[str, Any], owned: tuple[str, ...], what: str) -> None:
    """Refuse parameters that a library's model does not have, or that the harness sets.

    Raises:
        ConfigError: naming the parameter.
    """
    for name in args:
        if name in owned:
            raise ConfigError(
                f"model.args.{name} is set by the harness, so that the model depends on the seed only; remove it"
            )
        if name not in taken:
            raise ConfigError(f"model.args.{name} is not a parameter of {what}; it has {', '.join(sorted(taken))}")


def parameters(made: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Parameters of a constructor, except variadic ones."""
    found = inspect.signature(made).parameters
    return {name: one for name, one in found.items() if one.kind is not one.VAR_KEYWORD and name != "self"}


def needs(package: str, line: str, name: str) -> None:
    """Refuse a library that is not installed.

    Raises:
        MissingPackage: with the command that installs it.
    """
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise MissingPackage(f"model.{name} needs {package}, which is not installed: {line}")
