"""A network of torchvision, with a file of its weights. Marcel & Rodriguez, ACM Multimedia 2010.

Mean and deviation are those of the declared weights (`weights_enum`), read from torchvision without a download.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from benchmark.api import ConfigError, DataSpec, Model, hookimpl

from ._weights import state_in
from ._zoo import fitting, imported, pinned, preprocessed

LINE = (
    "pip install torchvision in the version that fits the installed torch (none imports beside the CPU build of 2.13)"
)


@dataclass(frozen=True)
class TorchVision(Model):
    """Any network that torchvision.models.get_model knows.

    name: such as resnet50. path: the state dict, .pth or .safetensors. sha256: of the file; empty takes any.

    weights_enum: such as ResNet50_Weights.IMAGENET1K_V2, for the preprocessing, whose crop size images are resized to;
    empty takes inputs as they are.
    """

    name: str = "resnet18"
    path: str = ""
    sha256: str = ""
    weights_enum: str = ""

    def build(self, spec: DataSpec) -> nn.Module:
        """The architecture behind its preprocessing, with initial weights: those of the file are in `pretrained`.

        Raises:
            MissingPackage: without torchvision. ConfigError: for an unknown name. Refused: for other data.
        """
        models = imported("torchvision.models", LINE)
        mean, std, size = [0.0] * spec.shape[0], [1.0] * spec.shape[0], None
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
            DataError: if the file is missing, is another than the pinned one, or does not fit.
        """
        if not self.path:
            return None
        pinned(Path(self.path), self.sha256)
        return fitting(f"torchvision's {self.name}", self._module(spec), state_in(Path(self.path), "", ""))

    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (Path(self.path),) if self.path else ()

    def _module(self, spec: DataSpec) -> nn.Module:
        models = imported("torchvision.models", LINE)
        try:
            made: nn.Module = models.get_model(self.name, weights=None, num_classes=spec.classes)
        except ValueError as error:
            raise ConfigError(
                f"model.name is {self.name!r}: {error}; torchvision.models.list_models() has them"
            ) from error
        return made


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return TorchVision
