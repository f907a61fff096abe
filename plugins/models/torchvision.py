"""A network of torchvision, with weights from a file. Marcel & Rodriguez, ACM Multimedia 2010.

Mean and deviation are those of the declared weights (`weights_enum`), read from torchvision without a download.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from benchmark.api import ConfigError, DataSpec, Model, hookimpl

from ._weights import state_in
from ._zoo import ZooModel, fitting, imported, pinned, preprocessed

CHANNELS = 3
LINE = "pip install torchvision in the version for the installed torch (there is none for the CPU build of 2.13)"


@dataclass(frozen=True)
class TorchVision(ZooModel):
    """Any network supported by torchvision.models.get_model.

    name: such as resnet50. path: the state dict, .pth or .safetensors. sha256: of the file; empty accepts any.

    weights_enum: such as ResNet50_Weights.IMAGENET1K_V2, for the preprocessing, with images resized to its crop size;
    empty for no preprocessing. clean_accuracy: as published, in [0, 1]; checked when the weights are loaded.
    """

    name: str = "resnet18"
    path: str = ""
    sha256: str = ""
    weights_enum: str = ""

    def build(self, spec: DataSpec) -> nn.Module:
        """The architecture with its preprocessing and initial weights; those of the file are in `pretrained`.

        Raises:
            MissingPackage: without torchvision.
            ConfigError: for an unknown name.
            Refused: if it does not fit the data.
        """
        models = imported("torchvision.models", LINE)
        mean, std, size = [0.0] * CHANNELS, [1.0] * CHANNELS, None  # as all networks of torchvision take them
        if self.weights_enum:
            try:
                chosen = models.get_weight(self.weights_enum).transforms()
            except ValueError as error:
                raise ConfigError(f"model.weights_enum is {self.weights_enum!r}: {error}") from error
            mean, std, size = list(chosen.mean), list(chosen.std), 2 * list(chosen.crop_size)
        return preprocessed("model.torchvision", self._module(spec), spec, spec.classes, mean, std, size)

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor] | None:
        """The weights of the file; None without one, to train the network.

        Raises:
            DataError: if the file is missing, has another checksum, or does not fit.
        """
        if not self.path:
            return None
        pinned(Path(self.path), self.sha256)
        return fitting(f"torchvision's {self.name}", self._module(spec), state_in(Path(self.path), "", ""))

    def files(self) -> tuple[Path, ...]:
        """The file of weights, if any."""
        return (Path(self.path),) if self.path else ()

    def _module(self, spec: DataSpec) -> nn.Module:
        models = imported("torchvision.models", LINE)
        try:
            made: nn.Module = models.get_model(self.name, weights=None, num_classes=spec.classes)
        except ValueError as error:
            raise ConfigError(f"model.name is {self.name!r}: {error}; see torchvision.models.list_models()") from error
        return made


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return TorchVision
