"""Models of the user's own: from inputs in [0, 1] to theirs, and from their answers to logits, by declared rules.

Nothing is guessed. A model that answers with something else than its rule says is refused, with what it answered.
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
    """Kinds of answers: a score per class, a probability per class, one label, or one logit of two classes."""

    logits = "logits"
    probabilities = "probabilities"
    labels = "labels"
    logit = "logit"

    @classmethod
    def of(cls, name: str) -> AnswerKind:
        """The kind of that name.

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
    """Inputs as a model takes them: x * scale + shift for x in [0, 1], in a layout of its own.

    scale, shift: one value, or one per channel (images) or feature.
    layout: NCHW, NHWC, NHW (images of one channel without that axis) or flat, (N, D).
    """

    scale: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)
    layout: str = "NCHW"

    def theirs(self, x: Tensor) -> Tensor:
        """Inputs as the model takes them, for `x` (B, *S) in [0, 1]."""
        if self.scale != (1.0,) or self.shift != (0.0,):
            shape = (1, -1, *([1] * (x.ndim - 2)))
            scale, shift = (x.new_tensor(value).reshape(shape) for value in (self.scale, self.shift))
            x = x * scale + shift
        if self.layout == "NHWC":
            return x.permute(0, 2, 3, 1).contiguous()
        return x.squeeze(1) if self.layout == "NHW" else x

    def ours(self, x: Tensor) -> Tensor:
        """(B, *S) in the harness's layout and [0, 1], for inputs of the model; bytes that stand for x / 255 stay."""
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
    """Rule by which the answer of a model becomes logits (B, K).

    kind: what it answers. output: where that is in a tuple (its index), a dict (its key) or an object (its attribute);
    None where the answer is the tensor or array itself. classes: K, which labels alone do not tell.
    """

    kind: AnswerKind = AnswerKind.logits
    output: int | str | None = None
    classes: int = 0

    def scores(self, answer: object, x: Tensor) -> Tensor:
        """(B, K) logits on the device of `x` (B, *S).

        Probabilities become their logarithms, one logit z becomes (0, z), and a label a score of 1 among zeros.

        Raises:
            SystemFault: if the answer is not what the rule says.
        """
        said = self._chosen(answer)
        values = said if isinstance(said, Tensor) else torch.as_tensor(np.asarray(said), device=x.device)
        if len(values.shape) == 0 or len(values) != len(x):
            raise SystemFault(
                f"the model answered {len(x)} inputs with the shape {tuple(values.shape)}; expected an answer for each"
            )
        if self.kind is AnswerKind.labels:
            return self._of_labels(values, x)
        if not values.is_floating_point():
            raise SystemFault(
                f"the model answered with {_named(values)}, and its answers are declared as {self.kind.value}, which "
                "are floating point; declare answers='labels' if these are labels"
            )
        if self.kind is AnswerKind.logit:
            return self._of_logit(values)
        if values.ndim != 2 or values.shape[1] < 2:
            hint = "; declare answers='logit' for one logit of two classes" if values[0].numel() == 1 else ""
            raise SystemFault(
                f"the model answered {len(x)} inputs with the shape {tuple(values.shape)}; expected (N, K), one column "
                f"per class{hint}"
            )
        return self._of_probabilities(values) if self.kind is AnswerKind.probabilities else values

    def _of_labels(self, values: Tensor, x: Tensor) -> Tensor:
        labels = values.flatten(1).squeeze(1) if values.ndim == 2 else values
        if labels.ndim != 1 or labels.is_floating_point():
            raise SystemFault(
                f"the model answered {len(x)} inputs with {_named(values)} of the shape {tuple(values.shape)}, and its "
                "answers are declared as labels; expected (N,) whole numbers from 0"
            )
        if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < self.classes):
            raise SystemFault(
                f"the model answered with labels from {int(labels.min())} to {int(labels.max())}; expected 0 to "
                f"{self.classes - 1}: declare classes=K, and number the labels from 0"
            )
        return torch.nn.functional.one_hot(labels.long(), self.classes).to(x.dtype)

    @staticmethod
    def _of_logit(values: Tensor) -> Tensor:
        if values.ndim > 2 or values[0].numel() != 1:
            raise SystemFault(
                f"the model answered with the shape {tuple(values.shape)}, and its answers are declared as one logit; "
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
                f"the model's answers are declared as probabilities, and their sums differ from 1 by up to {off:.3g} "
                f"(the smallest is {least:.3g}); declare answers='logits' if these are scores"
            )
        return values.clamp_min(torch.finfo(values.dtype).tiny).log()

    def _chosen(self, answer: object) -> object:
        """The part of the answer that the rule names."""
        if self.output is None:
            if isinstance(answer, (Tensor, np.ndarray)) or (isinstance(answer, list) and not _holds_arrays(answer)):
                return answer
            raise SystemFault(f"the model answers with {_parts(answer)}; say which part is meant, with output=")
        try:
            if isinstance(answer, Mapping) or isinstance(self.output, int):
                return answer[self.output]  # type: ignore[index]
            return getattr(answer, self.output)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise SystemFault(f"output is {self.output!r}, and the model answers with {_parts(answer)}") from error


def _holds_arrays(answer: list[Any]) -> bool:
    return any(isinstance(one, (Tensor, np.ndarray)) and one.ndim for one in answer)


def _parts(answer: object) -> str:
    """An answer in words: its kind, and what it has."""
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
    """A model of the user's own, from (B, *S) in [0, 1] to logits (B, K).

    asked: the model. arrays: whether it is given NumPy arrays, and so has no gradient.
    """

    def __init__(
        self, asked: Callable[[Any], object], inputs: InputRule, answers: AnswerRule, *, arrays: bool = False
    ) -> None:
        super().__init__()
        self.asked, self.inputs, self.answers, self.arrays = asked, inputs, answers, arrays

    def forward(self, x: Tensor) -> Tensor:
        """(B, K) logits of the model for `x` (B, *S)."""
        given = self.inputs.theirs(x)
        answer = self.asked(given.detach().cpu().numpy() if self.arrays else given)
        scores = self.answers.scores(answer, x)
        return scores.to(x.device, x.dtype) if self.arrays else scores
