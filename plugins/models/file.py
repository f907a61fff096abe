"""A model from a file: a class or function of user-provided code, with weights, or a program with both. No paper.

`model=net.py:MyNet` on the command line selects it. The code is the user's and unreviewed: records say so, and the
check of a submission never imports it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from benchmark.api import Adapted, AnswerKind, AnswerRule, ConfigError, DataError, DataSpec, InputRule, Model, hookimpl

from ._code import built_by, imported_files
from ._weights import misfits, program_in, state_in

LAYOUTS = ("NCHW", "NHWC", "NHW", "flat")


@dataclass(frozen=True)
class ModelFile(Model):
    """A model from user-provided code or from a program, without a package.

    path, factory: the Python file, and the class or function in it that returns the module; neither for a program.
    args: arguments of the factory, in addition to the data's `spec` if it has a parameter of that name.
    weights: a state dict (.safetensors, .pt, .pth), a TorchScript file, an exported program (.pt2), or a folder with
    model.safetensors; none to train the model, or if the factory loads them.
    entry: key of the state dict in a larger file. prefix: removed from the beginning of its names.
    answers: logits, probabilities, or logit (one, for two classes). output: the part of the output to use: an index of
    a tuple, a key, or an attribute. layout: NCHW, NHWC, NHW or flat, the module's input layout.
    scale, shift: the module receives x * scale + shift for x in [0, 1]; one value, or one per channel.
    """

    path: str = ""
    factory: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    weights: str = ""
    entry: str = ""
    prefix: str = ""
    answers: AnswerKind = AnswerKind.logits
    output: str = ""
    layout: str = "NCHW"
    scale: list[float] = field(default_factory=lambda: [1.0])
    shift: list[float] = field(default_factory=lambda: [0.0])

    reviewed = False

    def __post_init__(self) -> None:
        if bool(self.path) != bool(self.factory):
            raise ConfigError(
                f"model.path is {self.path!r} and model.factory is {self.factory!r}; set both, as in model=net.py:MyNet"
            )
        if self.layout not in LAYOUTS:
            raise ConfigError(f"model.layout is {self.layout!r}; expected one of {', '.join(LAYOUTS)}")
        if self.answers is AnswerKind.labels:
            raise ConfigError("model.answers is labels, which have no scores; use benchmark.evaluate for such a model")
        if (self.entry or self.prefix) and not self.weights:
            raise ConfigError("model.entry and model.prefix apply to weights, but model.weights is empty")

    def build(self, spec: DataSpec) -> nn.Module:
        """The module from inputs in [0, 1] to logits.

        Raises:
            ConfigError, DataError: if there is nothing to build, or building fails.
        """
        flat = "flat" if len(spec.shape) == 1 else self.layout
        inputs = InputRule(tuple(self.scale), tuple(self.shift), flat)
        output = int(self.output) if self.output.lstrip("-").isdigit() else self.output or None
        return Adapted(self._module(spec), inputs, AnswerRule(self.answers, output, spec.classes))

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor] | None:
        """The weights in the file, checked against the module.

        Raises:
            DataError: if they do not fit.
        """
        if not self.weights:
            return None
        expected = self._module(spec).state_dict()
        found = state_in(Path(self.weights), self.entry, self.prefix)
        wrong = misfits(expected, found)
        if wrong:
            raise DataError(
                f"{self.weights} does not fit {self.factory or 'the program'}: {len(wrong)} tensors differ "
                f"({'; '.join(wrong[:3])}); check model.args, or set model.prefix if all names share a prefix"
            )
        return {f"asked.{name}": value for name, value in found.items()}

    def files(self) -> tuple[Path, ...]:
        """The code, including imports from its folder, and the weights."""
        code = imported_files(Path(self.path)) if self.path else ()
        return (*code, *([Path(self.weights)] if self.weights else []))

    def unreviewed(self) -> str:
        """Description of the code by its content, for records."""
        if not self.path:
            return "a program of a file"
        digest = hashlib.sha256(Path(self.path).read_bytes()).hexdigest()
        return f"{self.factory} of a file with sha256 {digest[:12]}"

    def _module(self, spec: DataSpec) -> nn.Module:
        if self.path:
            return built_by(Path(self.path), self.factory, self.args, spec)
        if not self.weights:
            raise ConfigError(
                "model.file has nothing to build; name a class, model=net.py:MyNet, or a program, model=net.pt2"
            )
        program = program_in(Path(self.weights))
        if program is None:
            raise ConfigError(
                f"{self.weights} contains weights only; name the class too, as in model=net.py:MyNet "
                f"model.weights={self.weights}"
            )
        return program


@hookimpl
def benchmark_component() -> type[Model]:
    """Register the plugin."""
    return ModelFile
