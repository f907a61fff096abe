"""A model of a repository with a hubconf.py, as for torch.hub. Paszke et al., NeurIPS 2019, arXiv:1912.01703.

The repository is a folder, cloned once at a revision (`git clone`, `git checkout REV`); nothing is downloaded. Its code
is run unreviewed, and records say so.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.api import ConfigError, DataError, DataSpec, Model, hookimpl

from ._weights import state_in
from ._zoo import ZooModel, fitting, pinned, preprocessed


@dataclass(frozen=True)
class TorchHub(ZooModel):
    """A module returned by a function of the repository.

    repository: the folder with hubconf.py, identified by its content, not its place. entry: the function in it.
    args: its arguments. weights: a state dict, .safetensors or loaded with weights_only; empty for an entry that loads
    its own, which needs training.epochs=0.
    sha256: of that file. mean, std: of the entry's preprocessing, one value per channel.
    clean_accuracy: as published, in [0, 1]; checked when the weights are loaded.
    """

    repository: str = ""
    entry: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    weights: str = ""
    sha256: str = ""
    mean: list[float] = field(default_factory=lambda: [0.0])
    std: list[float] = field(default_factory=lambda: [1.0])

    reviewed = False

    def build(self, spec: DataSpec) -> nn.Module:
        """The module of the entry with its preprocessing.

        Raises:
            ConfigError: if the entry does not return a module.
            DataError: without the repository.
            Refused: if it does not fit the data.
        """
        mean, std = (values * (spec.shape[0] if len(values) == 1 else 1) for values in (self.mean, self.std))
        return preprocessed("model.torch_hub", self._module(), spec, spec.classes, mean, std)

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor] | None:
        """The weights of the file; None without one.

        Raises:
            DataError: if the file is missing, has another checksum, or does not fit.
        """
        if not self.weights:
            return None
        pinned(Path(self.weights), self.sha256)
        return fitting(f"{self.entry} of {self.repository}", self._module(), state_in(Path(self.weights), "", ""))

    def files(self) -> tuple[Path, ...]:
        """The repository and the weights."""
        return tuple(Path(one) for one in (self.repository, self.weights) if one)

    def unreviewed(self) -> str:
        """Description of the entry by the content of its hubconf.py, for records."""
        digest = hashlib.sha256((Path(self.repository) / "hubconf.py").read_bytes()).hexdigest()
        return f"{self.entry} of a repository whose hubconf.py has sha256 {digest[:12]}"

    def _module(self) -> nn.Module:
        if not (Path(self.repository) / "hubconf.py").is_file():
            raise DataError(
                f"model.repository is {self.repository!r}, but it has no hubconf.py; clone the repository first"
            )
        try:
            made = torch.hub.load(self.repository, self.entry, source="local", **self.args)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"{self.entry!r} of {self.repository} cannot be called: {error}") from error
        if not isinstance(made, nn.Module):
            raise ConfigError(
                f"{self.entry!r} of {self.repository} returned a {type(made).__name__}; expected a module"
            )
        return made


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return TorchHub
