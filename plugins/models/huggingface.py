"""An image classifier of the Hugging Face hub, from its folder. Wolf et al., EMNLP 2020 demos, arXiv:1910.03771.

`config.json` has the architecture, `model.safetensors` the weights, `preprocessor_config.json` the preprocessing, which
becomes part of the model. The folder is downloaded once: `hf download ID --revision REV --local-dir FOLDER`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from benchmark.api import DataError, DataSpec, Model, hookimpl

from ._weights import state_in
from ._zoo import ZooModel, document, fitting, imported, pinned, preprocessed

LINE = "pip install 'adversarial-benchmark[huggingface]'"


@dataclass(frozen=True)
class HuggingFace(ZooModel):
    """Any architecture supported by transformers' `AutoModelForImageClassification`; no code of the folder is run.

    path: the folder, identified by its content, not its location. sha256: of its model.safetensors; another one is
    refused; empty accepts any. clean_accuracy: as published, in [0, 1]; checked when the weights are loaded.
    """

    path: str = ""
    sha256: str = ""

    def build(self, spec: DataSpec) -> nn.Module:
        """The architecture with its preprocessing and initial weights; those of the folder are in `pretrained`.

        Raises:
            MissingPackage: without transformers.
            DataError: without the folder.
            Refused: if it does not fit the data.
        """
        about = Path(self.path) / "preprocessor_config.json"
        said = document(about) if about.is_file() else {}
        plain = said.get("do_normalize", True) is False or not said
        channels = spec.shape[0]
        mean = [0.0] * channels if plain else list(said["image_mean"])
        std = [1.0] * channels if plain else list(said["image_std"])
        module, classes = self._module()
        size = said.get("size") if said.get("do_resize", True) else None
        if isinstance(size, int):
            size = {"height": size, "width": size}
        taken = (size["height"], size["width"]) if isinstance(size, dict) and "height" in size else None
        return preprocessed("model.huggingface", module, spec, classes, mean, std, taken)

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor]:
        """The weights of the folder.

        Raises:
            DataError: if they are missing, have another checksum, or do not fit.
        """
        pinned(Path(self.path) / "model.safetensors", self.sha256)
        state_in(Path(self.path), "", "")  # no weights, or no safetensors, is said in our words
        options = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
        kind = imported("transformers", LINE).AutoModelForImageClassification
        theirs, about = kind.from_pretrained(self.path, **options)  # names of tensors differ between its versions
        wrong = {why: sorted(map(str, about[why])) for why in ("missing_keys", "unexpected_keys", "mismatched_keys")}
        if any(wrong.values()):
            said = "; ".join(
                f"{why.replace('_', ' ')}: {', '.join(names[:3])}" for why, names in wrong.items() if names
            )
            raise DataError(f"the weights in {self.path} do not fit its config.json ({said})")
        return fitting(f"the architecture in {self.path}", self._module()[0], theirs.state_dict())

    def files(self) -> tuple[Path, ...]:
        """The files of the folder."""
        return (Path(self.path),)

    def _module(self) -> tuple[nn.Module, int]:
        document(Path(self.path) / "config.json")
        transformers = imported("transformers", LINE)
        config = transformers.AutoConfig.from_pretrained(self.path, local_files_only=True, trust_remote_code=False)
        module: nn.Module = transformers.AutoModelForImageClassification.from_config(config)
        return module, int(config.num_labels)


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return HuggingFace
