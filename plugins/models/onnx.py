"""A trained model as an ONNX file, evaluated by ONNX Runtime (https://onnx.ai).

It makes models of TensorFlow, Keras, MXNet, scikit-learn and others available as systems without gradients.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.api import Access, DataError, DataSpec, Model, hookimpl

from ._portable import Answer, Portable, logarithms, needs


class Output(Enum):
    """Type of the file's output: scores before the softmax, probabilities, or labels."""

    logits = "logits"
    probabilities = "probabilities"
    labels = "labels"


@dataclass(frozen=True)
class ONNX(Model):
    """A trained model in an ONNX file; it is not trained further.

    path: the .onnx file, identified by its content, not its location. Its input is (N, *S) in [0, 1], or (N, D).
    sha256: of the file; another one is refused; empty accepts any.
    answers: type of the output, which limits the attacker's access. output: name of the output; empty for the last one.
    """

    path: str = ""
    sha256: str = ""
    answers: Output = Output.logits
    output: str = ""

    def __post_init__(self) -> None:
        needs("onnxruntime", "pip install 'adversarial-benchmark[onnxruntime]'", "onnx")
        access = Access.labels if self.answers is Output.labels else Access.scores
        object.__setattr__(self, "access", access)

    def _file(self) -> bytes:
        path = Path(self.path)
        if not self.path or not path.is_file():
            raise DataError(f"model.path is {self.path!r}, which is not a file; expected an .onnx file")
        raw = path.read_bytes()
        found = hashlib.sha256(raw).hexdigest()
        if self.sha256 and found != self.sha256:
            raise DataError(f"{path} has sha256 {found}, but model.sha256 is {self.sha256}; get the right file")
        return raw

    def build(self, spec: DataSpec) -> nn.Module:
        """Network from (B, *S) to scores (B, K), which are 0 before the file is loaded into it.

        Raises:
            DataError: if there is no such file, or it has another checksum.
        """
        opening = partial(opened, kind=self.answers.value, output=self.output, classes=spec.classes)
        return Portable(len(self._file()), spec.classes, opening)

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor]:
        """The content of the file, as a tensor.

        Raises:
            DataError: if it is missing, has another checksum, or does not give one row of scores per input.
        """
        module = self.build(spec)
        assert isinstance(module, Portable)
        module.take(self._file())
        try:
            said = module(torch.full((2, *spec.shape), 0.5))
        except DataError:
            raise
        except Exception as error:  # ONNX Runtime has no class of its own for each fault
            raise DataError(f"{self.path} cannot be evaluated on inputs of shape {spec.shape}: {error}") from error
        if tuple(said.shape) != (2, spec.classes):
            raise DataError(
                f"{self.path} gives outputs of shape {tuple(said.shape)} for 2 inputs; expected (2, {spec.classes})"
            )
        return dict(module.state_dict())

    def files(self) -> tuple[Path, ...]:
        """The ONNX file."""
        return (Path(self.path),)


def opened(file: bytes, *, kind: str, output: str, classes: int) -> Answer:
    """Prediction function of ONNX Runtime on one thread.

    Raises:
        DataError: if the file cannot be opened, or has no such output.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise DataError(f"ONNX Runtime cannot open the file: {error}") from error
    given: Any = session.get_inputs()[0]
    outputs = [one.name for one in session.get_outputs()]
    if output and output not in outputs:
        raise DataError(f"model.output is {output!r}, but the file has {', '.join(outputs)}")
    chosen = output or outputs[-1]

    def answer(x: np.ndarray) -> np.ndarray:
        shaped = x.reshape(len(x), -1) if len(given.shape) == 2 else x
        said = np.asarray(session.run([chosen], {given.name: shaped})[0])
        if kind == "labels":
            return np.eye(classes, dtype=np.float32)[said.reshape(-1).astype(np.int64)]
        return logarithms(said) if kind == "probabilities" else said

    return answer


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return ONNX
