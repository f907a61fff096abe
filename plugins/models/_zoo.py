"""Models of a zoo: its declared preprocessing becomes part of the model, and weights are checked against the module."""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.api import ConfigError, DataError, DataSpec, MissingPackage, Model, Refused, added

from ._weights import misfits

INSIDE = "model."
"""The prefix of the zoo's weights in those of :class:`Preprocessed`."""


@dataclass(frozen=True, kw_only=True)
class ZooModel(Model):
    """Pretrained model of a zoo, whose publisher states its clean accuracy.

    clean_accuracy: in [0, 1], on the dataset of the run; checked when the weights are loaded. None: the zoo's own card
    is asked, if it has one.
    """

    clean_accuracy: float | None = added(None)

    def __post_init__(self) -> None:
        if self.clean_accuracy is not None and not 0 <= self.clean_accuracy <= 1:
            raise ConfigError(
                f"model.clean_accuracy is {self.clean_accuracy}; expected a fraction from 0 to 1, such as 0.9478"
            )

    def stated_accuracy(self, dataset: str) -> float | None:
        """The setting; by default, that of the zoo's card."""
        return self.card_accuracy(dataset) if self.clean_accuracy is None else self.clean_accuracy

    def card_accuracy(self, dataset: str) -> float | None:
        """Clean accuracy on a dataset according to the zoo's card; None if it does not say."""
        return None


def imported(package: str, line: str) -> ModuleType:
    """Import the package of a zoo.

    Raises:
        MissingPackage: if it is not installed or cannot be imported; `line` installs it.
    """
    try:
        return importlib.import_module(package)
    except (ImportError, RuntimeError) as error:
        raise MissingPackage(f"{package} cannot be imported ({' '.join(str(error).split())[:160]}); {line}") from error


def document(path: Path) -> dict[str, Any]:
    """Read a JSON file of a zoo.

    Raises:
        DataError: if it is missing or not a JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); download the whole folder of the model") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} contains {type(found).__name__}; expected a JSON object")
    return found


def pinned(path: Path, sha256: str, setting: str = "model.sha256") -> None:
    """Refuse weights whose checksum differs from the pinned one; an empty one accepts any.

    Raises:
        ConfigError: if `sha256` is not a checksum.
        DataError: if the file is missing or differs.
    """
    if not sha256:
        return
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ConfigError(f"{setting} is {sha256!r}; expected 64 lower-case hexadecimal digits, or an empty value")
    if not path.is_file():
        raise DataError(f"{path} is missing, but {setting} pins it")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise DataError(f"{path} has sha256 {found}, but {setting} is {sha256}; download the right revision")


class Preprocessed(nn.Module):
    """Resize if sizes differ, then (x - mean) / std, then the zoo's module, whose logits are returned.

    model: from (B, C, h, w) to logits (B, K), or to an object with an attribute `logits`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: list[float], std: list[float], size: tuple[int, int] | None) -> None:
        super().__init__()
        self.model, self.size = model, size
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).reshape(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) in [0, 1] to (B, K)."""
        if self.size is not None and tuple(x.shape[2:]) != self.size:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True)
        answer = self.model((x - self.mean) / self.std)
        logits: Tensor = getattr(answer, "logits", answer)
        return logits


def preprocessed(
    owner: str, module: nn.Module, spec: DataSpec, classes: int, mean: list[float], std: list[float], size: Any = None
) -> Preprocessed:
    """The module with its preprocessing. classes: number of outputs. size: input (h, w), or None for any.

    Raises:
        Refused: if it does not fit the data.
    """
    if not spec.image or spec.shape[0] not in (1, len(mean)) or (len(mean) not in (1, spec.shape[0])):
        raise Refused(f"{owner} takes images of {len(mean)} channels, but the examples have shape {spec.shape}")
    if classes != spec.classes:
        raise Refused(
            f"{owner} has {classes} classes, but the data have {spec.classes}; choose the data it was made for"
        )
    return Preprocessed(module, mean, std, None if size is None else (int(size[0]), int(size[1])))


def fitting(owner: str, module: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The zoo's weights under their names in :class:`Preprocessed`.

    Raises:
        DataError: if they do not fit the module.
    """
    wrong = misfits(module.state_dict(), weights)
    if wrong:
        raise DataError(f"{len(wrong)} tensors of the weights do not fit {owner} ({'; '.join(wrong[:3])})")
    return {f"{INSIDE}{name}": value for name, value in weights.items()}
