"""An image classifier of timm, from its folder. Wightman, PyTorch image models, 2019, doi:10.5281/zenodo.4414861.

`config.json` has the architecture, the classes, and under `pretrained_cfg` mean, deviation and size, which become part
of the model; `model.safetensors` has the weights. Downloaded once: `hf download timm/NAME --revision REV --local-dir
DIR`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from benchmark.api import DataError, DataSpec, Model, hookimpl

from ._weights import state_in
from ._zoo import ZooModel, document, fitting, imported, pinned, preprocessed

LINE = "pip install timm, with a torchvision for the installed torch (there is none for the CPU build of 2.13)"


@dataclass(frozen=True)
class Timm(ZooModel):
    """Any architecture supported by timm.create_model.

    path: the folder, identified by its content, not its location. sha256: of its model.safetensors; empty accepts any.

    clean_accuracy: as published, in [0, 1]; checked when the weights are loaded.
    """

    path: str = ""
    sha256: str = ""

    def build(self, spec: DataSpec) -> nn.Module:
        """The architecture with its preprocessing and initial weights; those of the folder are in `pretrained`.

        Raises:
            MissingPackage: without timm.
            DataError: without the folder.
            Refused: if it does not fit the data.
        """
        config = document(Path(self.path) / "config.json")
        said = config.get("pretrained_cfg", {})
        mean, std = list(said.get("mean", [0.485, 0.456, 0.406])), list(said.get("std", [0.229, 0.224, 0.225]))
        size = said.get("input_size")
        taken = None if size is None or said.get("fixed_input_size") is False else size[1:]
        module = self._module(config, spec)
        return preprocessed("model.timm", module, spec, int(config.get("num_classes", 0)), mean, std, taken)

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor]:
        """The weights of the folder.

        Raises:
            DataError: if they are missing, have another checksum, or do not fit.
        """
        pinned(Path(self.path) / "model.safetensors", self.sha256)
        module = self._module(document(Path(self.path) / "config.json"), spec)
        return fitting(f"the architecture in {self.path}", module, state_in(Path(self.path), "", ""))

    def files(self) -> tuple[Path, ...]:
        """The files of the folder."""
        return (Path(self.path),)

    def _module(self, config: dict[str, object], spec: DataSpec) -> nn.Module:
        name = config.get("architecture")
        if not isinstance(name, str):
            raise DataError(f"{self.path}/config.json names no architecture; expected the folder of a timm model")
        arguments = config.get("model_args") or {}
        assert isinstance(arguments, dict)
        channels = {"in_chans": spec.shape[0]} if spec.shape[0] != 3 else {}
        settings = {"num_classes": config.get("num_classes"), **channels, **arguments}
        own = {"pretrained": False, "checkpoint_path": ""}  # the weights are those of the folder alone
        made: nn.Module = imported("timm", LINE).create_model(name, **{**settings, **own})
        return made


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return Timm
