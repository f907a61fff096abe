"""Weights from a file: any architecture with the weights of a safetensors file (https://github.com/huggingface/safetensors).

The file contains the state dict of the architecture, without the normalisation, which is the dataset's.
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
    """A trained model of the user's.

    path: the safetensors file, identified by its content, not its location. sha256: of the file; another one is
    refused; empty accepts any. model: the architecture of the weights.
    """

    path: str = ""
    sha256: str = ""
    model: Model = inner("small_cnn")

    def __post_init__(self) -> None:
        if self.sha256 and (len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef")):
            raise ConfigError(
                f"model.sha256 is {self.sha256!r}; expected 64 lower-case hexadecimal digits, or an empty value"
            )

    def build(self, spec: DataSpec) -> nn.Module:
        """The architecture with its initial weights; those of the file are in `pretrained`."""
        return self.model.build(spec)

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor]:
        """The weights in the file.

        Raises:
            DataError: if the file is missing, has another checksum, or does not fit the architecture.
        """
        path = Path(self.path)
        if not path.is_file():
            raise DataError(f"model.path is {self.path!r}, which is not a file; expected a safetensors file of weights")
        raw = path.read_bytes()
        found = hashlib.sha256(raw).hexdigest()
        if self.sha256 and found != self.sha256:
            raise DataError(
                f"{path} has sha256 {found}, but model.sha256 is {self.sha256}; get the right file, or correct "
                "model.sha256 if this is the intended one"
            )
        try:
            weights = safetensors.torch.load(raw)
        except SafetensorError as error:
            raise DataError(
                f"{path} is not a safetensors file ({error}); expected one written by "
                "safetensors.torch.save_file(model.state_dict(), path)"
            ) from error
        self._check(weights, spec)
        return weights

    def files(self) -> tuple[Path, ...]:
        """The file of weights, and those of the architecture."""
        return (Path(self.path), *self.model.files())

    def _check(self, weights: dict[str, Tensor], spec: DataSpec) -> None:
        with torch.device("meta"):  # shapes alone: no memory, and nothing is drawn from the global generator
            expected = self.model.build(spec).state_dict()
        wrong = misfits(expected, weights)
        if wrong:
            raise DataError(
                f"{self.path} does not fit {type(self.model).__name__} on this dataset: {len(wrong)} tensors differ "
                f"({'; '.join(wrong[:3])}); choose the architecture in model.model"
            )


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return Checkpoint
