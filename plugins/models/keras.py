"""A model of Keras 3 on its torch backend, with gradients, from a .keras file. Chollet et al., https://keras.io, 2015.

The file contains architecture and weights; code stored in it is not run (`safe_mode`). Run the command with
KERAS_BACKEND=torch in the environment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from benchmark.api import Adapted, AnswerKind, AnswerRule, ConfigError, DataError, DataSpec, InputRule, Model, hookimpl

from ._zoo import ZooModel, imported, pinned

LINE = "pip install 'adversarial-benchmark[keras]', and set KERAS_BACKEND=torch"


@dataclass(frozen=True)
class Keras(ZooModel):
    """A trained model; on Keras' other backends it has no gradients and is refused.

    path: the .keras file, identified by its content, not its location. sha256: of it; empty accepts any. answers:
    output of the last layer: logits, probabilities, or logit (one, for two classes). scale, shift: the model receives x
    * scale + shift for x in [0, 1], with channels last; one value, or one per channel. clean_accuracy: as published, in
    [0, 1]; checked when the weights are loaded.
    """

    path: str = ""
    sha256: str = ""
    answers: AnswerKind = AnswerKind.logits
    scale: list[float] = field(default_factory=lambda: [1.0])
    shift: list[float] = field(default_factory=lambda: [0.0])

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.answers is AnswerKind.labels:
            raise ConfigError("model.answers is labels, which have no scores; expected logits, probabilities or logit")

    def build(self, spec: DataSpec) -> nn.Module:
        """The model with its input layout.

        Raises:
            MissingPackage: without Keras.
            ConfigError: on another backend.
            DataError: if the file cannot be read.
        """
        inputs = InputRule(tuple(self.scale), tuple(self.shift), "NHWC" if spec.image else "flat")
        return Adapted(self._module(), inputs, AnswerRule(self.answers, None, spec.classes))

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor]:
        """The weights of the file."""
        return {f"asked.{name}": value.detach() for name, value in self._module().state_dict().items()}

    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (Path(self.path),)

    def _module(self) -> nn.Module:
        path = Path(self.path)
        if not path.is_file():
            raise DataError(f"model.path is {self.path!r}, which is not a file; expected a model saved as .keras")
        pinned(path, self.sha256)
        keras: Any = imported("keras", LINE)
        if keras.backend.backend() != "torch":
            raise ConfigError(f"Keras runs on {keras.backend.backend()} here, which has no torch gradients; {LINE}")
        try:
            module = keras.saving.load_model(path, compile=False, safe_mode=True)
        except (ValueError, TypeError, OSError, KeyError) as error:
            raise DataError(f"{path} cannot be read ({' '.join(str(error).split())[:200]})") from error
        assert isinstance(module, nn.Module)
        return module


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return Keras
