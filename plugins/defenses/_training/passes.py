"""Forward passes of training losses: none twice, none that running statistics notice, modes put back as found."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator

from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["Recorded", "Tempered", "Undisturbed", "evaluating", "made_once", "reusing"]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards every module is in the mode that it was in, whatever happened."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


_APART: contextvars.ContextVar[bool] = contextvars.ContextVar("pass_apart_from_the_others", default=False)


class Recorded(nn.Module):
    """A model that passes the same tensor once in training mode; asked again, it gives the logits (B, K) of that pass.

    The terms of a loss, and the losses of a stack, so share the pass over the clean inputs. Passes in evaluation mode,
    and those at shifted weights or without running statistics (`Undisturbed`), are neither kept nor answered from here.
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
    """A model whose buffers, such as the statistics of batch normalisation, do not notice a pass in training mode.

    offsets: added to the parameters of these names for the pass; the parameters themselves are not touched, and what
    flows back to them is the gradient at the shifted point. keeps: whether buffers are left out of it and do notice.
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
    """Inside the block the adversarial examples of a batch are made once, however often the loss is evaluated."""
    token = _MADE.set({})
    try:
        yield
    finally:
        _MADE.reset(token)


def made_once(key: object, make: Callable[[], Tensor]) -> Tensor:
    """`make()`, or what it gave for this key before in a `reusing` block."""
    made = _MADE.get()
    if made is None:
        return make()
    if key not in made:
        made[key] = make()
    return made[key]
