"""Forward passes of training losses: shared between losses, without side effects on running statistics or modes."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator

from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["Recorded", "Tempered", "Undisturbed", "evaluating", "made_once", "reusing"]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; each module's mode is restored afterwards, even on an exception."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


_APART: contextvars.ContextVar[bool] = contextvars.ContextVar("pass_apart_from_the_others", default=False)


class Recorded(nn.Module):
    """A model that caches its last pass in training mode: for the same tensor it returns the same logits (B, K).

    The terms of a loss, and the losses of a stack, so share the pass over the clean inputs. Passes in evaluation mode,
    with shifted weights or without running statistics (`Undisturbed`) are not cached.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.passes: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *S) to (B, K)."""
        apart = _APART.get() or not self.training
        for given, logits in () if apart else self.passes:
            if given is x:
                return logits
        now: Tensor = self.model(x)
        if not apart:
            self.passes.append((x, now))
        return now


class Undisturbed(nn.Module):
    """A model whose passes in training mode leave its buffers, such as batch normalisation statistics, unchanged.

    offsets: added to the parameters of these names for the pass only; the parameters are not modified, and receive the
    gradient at the shifted point. keeps: whether buffers are updated after all.
    """

    def __init__(self, model: nn.Module, offsets: dict[str, Tensor] | None = None, *, keeps: bool = False) -> None:
        super().__init__()
        self.model, self.offsets, self.keeps = model, offsets or {}, keeps

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *S) to (B, K)."""
        parameters = dict(self.model.named_parameters())
        values = {name: parameters[name] + offset for name, offset in self.offsets.items()}
        if not self.keeps:
            values |= {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        token = _APART.set(True)
        try:
            logits: Tensor = functional_call(self.model, values, (x,))
        finally:
            _APART.reset(token)
        return logits


class Tempered(nn.Module):
    """Logits divided by a temperature."""

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, *S) to (B, K)."""
        logits: Tensor = self.model(x)
        return logits / self.temperature


_MADE: contextvars.ContextVar[dict[object, Tensor] | None] = contextvars.ContextVar("made_in_training", default=None)


@contextlib.contextmanager
def reusing() -> Iterator[None]:
    """Compute the adversarial examples of a batch once inside the block, however often the loss is evaluated."""
    token = _MADE.set({})
    try:
        yield
    finally:
        _MADE.reset(token)


def made_once(key: object, make: Callable[[], Tensor]) -> Tensor:
    """`make()`, or its earlier result for this key inside a `reusing` block."""
    made = _MADE.get()
    if made is None:
        return make()
    if key not in made:
        made[key] = make()
    return made[key]
