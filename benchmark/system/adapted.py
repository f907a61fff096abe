"""Adapters for the user's own models: from inputs in [0, 1] to theirs, and from their outputs to logits.

The conversion is declared, never guessed. A model with another output than declared is refused, with its output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.errors import ConfigError, SystemFault

__all__ = ["Adapted", "AnswerKind", "AnswerRule", "InputRule"]


class AnswerKind(Enum):
    """Kinds of output: a score per class, a probability per class, one label, or one logit for two classes."""

    logits = "logits"
    probabilities = "probabilities"
    labels = "labels"
    logit = "logit"

    @classmethod
    def of(cls, name: str) -> AnswerKind:
        """Kind of that name.

        Raises:
            ConfigError: if there is none.
        """
        try:
            return cls(name)
        except ValueError as error:
            known = ", ".join(kind.value for kind in cls)
            raise ConfigError(f"answers is {name!r}; expected one of {known}") from error


@dataclass(frozen=True)
class InputRule:
    """Conversion of inputs to a model's range and layout: x * scale + shift for x in [0, 1].

    scale, shift: one value, or one per channel (images) or feature.
    layout: NCHW, NHWC, NHW (images of one channel without that axis) or flat, (N, D).
    """

    scale: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)
    layout: str = "NCHW"

    def theirs(self, x: Tensor) -> Tensor:
        """Inputs in the model's range and layout, for `x` (B, *S) in [0, 1]."""
        if self.scale != (1.0,) or self.shift != (0.0,):
            shape = (1, -1, *([1] * (x.ndim - 2)))
            scale, shift = (x.new_tensor(value).reshape(shape) for value in (self.scale, self.shift))
            x = x * scale + shift
        if self.layout == "NHWC":
            return x.permute(0, 2, 3, 1).contiguous()
        return x.squeeze(1) if self.layout == "NHW" else x

    def ours(self, x: Tensor) -> Tensor:
        """Inputs (B, *S) in [0, 1] in the harness's layout, from the model's; uint8, standing for x / 255, stays."""
        if self.layout == "NHWC":
            x = x.permute(0, 3, 1, 2).contiguous()
        elif self.layout == "NHW":
            x = x[:, None]
        if x.dtype == torch.uint8 and self.scale == (255.0,) and self.shift == (0.0,):
            return x
        x = x.double()
        shape = (1, -1, *([1] * (x.ndim - 2)))
        return ((x - x.new_tensor(self.shift).reshape(shape)) / x.new_tensor(self.scale).reshape(shape)).float()


@dataclass(frozen=True)
class AnswerRule:
    """Conversion of a model's output to logits (B, K).

    kind: of the output. output: its position in a tuple (index), a dict (key) or an object (attribute); None if the
    model returns the tensor or array directly. classes: K, needed for labels.
    """

    kind: AnswerKind = AnswerKind.logits
    output: int | str | None = None
    classes: int = 0

    def scores(self, answer: object, x: Tensor) -> Tensor:
        """Logits, (B, K), on the device of `x` (B, *S).

        Probabilities become their logarithms, one logit z becomes (0, z), and a label becomes a one-hot score.

        Raises:
            SystemFault: if the output is not as declared.
        """
        said = self._chosen(answer)
        values = said if isinstance(said, Tensor) else torch.as_tensor(np.asarray(said), device=x.device)
        if len(values.shape) == 0 or len(values) != len(x):
            raise SystemFault(
                f"the model returned the shape {tuple(values.shape)} for {len(x)} inputs; expected one row for each"
            )
        if self.kind is AnswerKind.labels:
            return self._of_labels(values, x)
        if not values.is_floating_point():
            raise SystemFault(
                f"the model returned {_named(values)}, but its answers are declared as {self.kind.value}, which are "
                "floating point; declare answers='labels' if these are labels"
            )
        if self.kind is AnswerKind.logit:
            return self._of_logit(values)
        if values.ndim != 2 or values.shape[1] < 2:
            hint = "; declare answers='logit' for one logit of two classes" if values[0].numel() == 1 else ""
            raise SystemFault(
                f"the model returned the shape {tuple(values.shape)} for {len(x)} inputs; expected (N, K), one column "
                f"per class{hint}"
            )
        return self._of_probabilities(values) if self.kind is AnswerKind.probabilities else values

    def _of_labels(self, values: Tensor, x: Tensor) -> Tensor:
        labels = values.flatten(1).squeeze(1) if values.ndim == 2 else values
        if labels.ndim != 1 or labels.is_floating_point():
            raise SystemFault(
                f"the model returned {_named(values)} of the shape {tuple(values.shape)} for {len(x)} inputs, but its "
                "answers are declared as labels; expected (N,) whole numbers from 0"
            )
        if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < self.classes):
            raise SystemFault(
                f"the model returned labels from {int(labels.min())} to {int(labels.max())}; expected 0 to "
                f"{self.classes - 1}: declare classes=K, and number the labels from 0"
            )
        return torch.nn.functional.one_hot(labels.long(), self.classes).to(x.dtype)

    @staticmethod
    def _of_logit(values: Tensor) -> Tensor:
        if values.ndim > 2 or values[0].numel() != 1:
            raise SystemFault(
                f"the model returned the shape {tuple(values.shape)}, but its answers are declared as one logit; "
                "expected (N,) or (N, 1), positive for class 1"
            )
        logit = values.reshape(-1, 1)
        return torch.cat([torch.zeros_like(logit), logit], 1)

    @staticmethod
    def _of_probabilities(values: Tensor) -> Tensor:
        with torch.no_grad():
            off = float((values.sum(1) - 1.0).abs().max()) if len(values) else 0.0
            least = float(values.min()) if len(values) else 0.0
        if off > 1e-3 or least < -1e-6:
            raise SystemFault(
                f"the model's answers are declared as probabilities, but their sums differ from 1 by up to {off:.3g} "
                f"(the smallest is {least:.3g}); declare answers='logits' if these are scores"
            )
        return values.clamp_min(torch.finfo(values.dtype).tiny).log()

    def _chosen(self, answer: object) -> object:
        """Part of the model's return value that the rule names."""
        if self.output is None:
            if isinstance(answer, (Tensor, np.ndarray)) or (isinstance(answer, list) and not _holds_arrays(answer)):
                return answer
            raise SystemFault(f"the model returns {_parts(answer)}; choose the part with output=")
        try:
            if isinstance(answer, Mapping) or isinstance(self.output, int):
                return answer[self.output]  # type: ignore[index]
            return getattr(answer, self.output)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise SystemFault(f"output is {self.output!r}, but the model returns {_parts(answer)}") from error


def _holds_arrays(answer: list[Any]) -> bool:
    return any(isinstance(one, (Tensor, np.ndarray)) and one.ndim for one in answer)


def _parts(answer: object) -> str:
    """Description of a return value: its type, and its keys, length or attributes."""
    if isinstance(answer, Mapping):
        return f"a {type(answer).__name__} of {', '.join(repr(key) for key in answer)}"
    if isinstance(answer, (tuple, list)) and not hasattr(answer, "_fields"):
        return f"a {type(answer).__name__} of {len(answer)}"
    if is_dataclass(answer) or hasattr(answer, "_fields"):
        return f"a {type(answer).__name__} with {', '.join(getattr(answer, '_fields', None) or vars(answer))}"
    return f"a {type(answer).__name__}"


def _named(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")


class Adapted(nn.Module):
    """The user's own model, from (B, *S) in [0, 1] to logits (B, K); its inputs get the type of its weights.

    asked: the model. arrays: it takes NumPy arrays, and so has no gradient.
    """

    def __init__(
        self, asked: Callable[[Any], object], inputs: InputRule, answers: AnswerRule, *, arrays: bool = False
    ) -> None:
        super().__init__()
        self.asked, self.inputs, self.answers, self.arrays = asked, inputs, answers, arrays

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (B, K), of the model for `x` (B, *S)."""
        given = self._typed(self.inputs.theirs(x))
        answer = self.asked(given.detach().cpu().numpy() if self.arrays else given)
        scores = self.answers.scores(answer, x)
        return scores.to(x.device, x.dtype) if self.arrays else scores

    def _typed(self, x: Tensor) -> Tensor:
        """`x` in the type of the weights, such as float64 or bfloat16, if all have the same one."""
        weights = self.asked.parameters() if isinstance(self.asked, nn.Module) else ()
        types = {weight.dtype for weight in weights if weight.is_floating_point()}
        return x.to(types.pop()) if len(types) == 1 else x
