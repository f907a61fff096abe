"""Weights from a file: any architecture with the weights of a safetensors file (https://github.com/huggingface/safetensors).

The file holds the state dict of the architecture. Its normalisation is not among the weights: it is the dataset's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from benchmark.api import ConfigError, DataError, DataSpec, Model, hookimpl, inner

from ._weights import misfits


@dataclass(frozen=True)
class Checkpoint(Model):
    """A trained model of the user's own.

    path: the safetensors file, whose content counts and not where it lies. sha256: of the file, which is refused if it
    differs; empty takes any content. model: the architecture that the weights fit.
    """

    path: str = ""
    sha256: str = ""
    model: Model = inner("small_cnn")

    def __post_init__(self) -> None:
        if self.sha256 and (len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef")):
            raise ConfigError(f"model.sha256 is {self.sha256!r}; expected 64 lower-case hexadecimal digits, or nothing")

    def build(self, spec: DataSpec) -> nn.Module:
        """The architecture, with its own initial weights: those of the file are in `pretrained`."""
        return self.model.build(spec)

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor]:
        """The weights in the file.

        Raises:
            DataError: if the file is missing, is another one, or does not fit the architecture.
        """
        path = Path(self.path)
        if not path.is_file():
            raise DataError(f"model.path is {self.path!r}, which is no file; expected a safetensors file of weights")
        raw = path.read_bytes()
        found = hashlib.sha256(raw).hexdigest()
        if self.sha256 and found != self.sha256:
            raise DataError(
                f"{path} has sha256 {found}, and model.sha256 is {self.sha256}; get the right file, or correct "
                "model.sha256 if this is the one that is meant"
            )
        try:
            weights = safetensors.torch.load(raw)
        except SafetensorError as error:
            raise DataError(
                f"{path} is no safetensors file ({error}); expected one that "
                "safetensors.torch.save_file(model.state_dict(), path) wrote"
            ) from error
        self._check(weights, spec)
        return weights

    def files(self) -> tuple[Path, ...]:
        """The file, and those of the architecture."""
        return (Path(self.path), *self.model.files())

    def _check(self, weights: dict[str, Tensor], spec: DataSpec) -> None:
        with torch.device("meta"):  # shapes alone: no memory, and nothing is drawn from the global generator
            expected = self.model.build(spec).state_dict()
        wrong = misfits(expected, weights)
        if wrong:
            raise DataError(
                f"{self.path} does not fit {type(self.model).__name__} on this dataset in {len(wrong)} tensors "
                f"({'; '.join(wrong[:3])}); choose the architecture in model.model"
            )


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return Checkpoint
