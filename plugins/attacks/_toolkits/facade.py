"""A target as a torch module, so that the attack of a toolkit asks the system through it and every pass is counted."""

from __future__ import annotations

import contextlib
import io
import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from benchmark.api import Access, Ball, Target, rows_norm


class Spent(Exception):  # noqa: N818 - it ends an attack, and is no error
    """The query budget is spent, or the system gives no finite answer: the toolkit is stopped here."""


class Facade(nn.Module):
    """One example's target, as a module from (n, *S) to scores (n, K), every row being charged to that example.

    Features outside the threat's region are set back before the system sees them, and have a gradient of zero. An
    attack that works by labels is given nothing else: scores of 1 for the label and 0 for the others; where the system
    refuses an answer, the label is one that counts as no success.

    target, ball: of one row. y: (1,) int64, the label to leave or, if `targeted`, to reach. access: what the method
    works by. batch_dims: dimensions before those of an example.
    """

    def __init__(self, target: Target, ball: Ball, y: Tensor, *, targeted: bool, access: Access) -> None:
        super().__init__()
        self.placed = nn.Parameter(torch.zeros((), device=ball.x.device), requires_grad=False)
        self.ask_as, self.targeted, self.classes = access, targeted, target.classes
        self._hidden = (target, ball, y)  # in a tuple, where torch does not look for modules and buffers
        self._nearest: tuple[float, Tensor] | None = None
        self.eval()

    @property
    def found(self) -> Tensor:
        """(1, *S): the nearest input asked about that succeeded, else the clean one; where a budget is kept."""
        return self._hidden[1].x if self._nearest is None else self._nearest[1]

    def forward(self, z: Tensor) -> Tensor:
        """(n, K) scores for `z` (n, *S), in the dtype of `z`."""
        _, ball, _ = self._hidden
        z_in = z.to(ball.x.dtype).reshape(-1, *ball.x.shape[1:])
        if ball.mask is not None:
            z_in = torch.where(ball.mask, z_in, ball.x)
        if torch.is_grad_enabled() and z_in.requires_grad and self.ask_as is Access.gradients:
            logits: Tensor = _Ask.apply(z_in, self)  # type: ignore[no-untyped-call]
        else:
            logits = self.ask(z_in.detach(), with_gradient=False)[0]
        return logits.to(z.dtype)

    def ask(self, z: Tensor, *, with_gradient: bool) -> tuple[Tensor, Any]:
        """Scores (n, K) for `z` (n, *S), and the pullback where a gradient is asked for.

        Raises:
            Spent: before the pass if it would exceed the budget, and after it if a score is not finite.
        """
        target, _, y = self._hidden
        left, pull = target.remaining(), None
        if left is not None and int(left[0]) < len(z):
            raise Spent
        rows = target.rows(torch.zeros(len(z), dtype=torch.int64, device=z.device)) if len(z) > 1 else target
        if self.ask_as is Access.labels:
            said = rows.labels(z)
            failure = (y + 1) % self.classes if self.targeted else y
            said = torch.where(said < 0, failure, said)
            logits = nn.functional.one_hot(said, self.classes).to(z.dtype)
        elif with_gradient:
            logits, pull = rows.pullback(z)
        else:
            logits = rows.logits(z)
        if not bool(logits.isfinite().all()):
            raise Spent
        if left is not None:
            self._note(z, logits)
        return logits, pull

    def _note(self, z: Tensor, logits: Tensor) -> None:
        """Keep the nearest success."""
        _, ball, y = self._hidden
        said = logits.argmax(1)
        won = (said == y if self.targeted else said != y) & ((z >= 0) & (z <= 1)).flatten(1).all(1)
        for row in won.nonzero().flatten().tolist():
            far = float(rows_norm(z[row : row + 1].double() - ball.x.double(), ball.norm))
            if self._nearest is None or far < self._nearest[0]:
                self._nearest = (far, z[row : row + 1].clone())


class _Ask(torch.autograd.Function):
    """A pass of the target whose gradient is asked for when the toolkit asks for it, and charged then."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, facade: Facade) -> Tensor:
        logits, ctx.pull = facade.ask(z, with_gradient=True)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        return ctx.pull(cotangent), None


@contextlib.contextmanager
def of_its_own(seed: int) -> Iterator[None]:
    """Global generators seeded inside the block and as they were after it; nothing printed, no warnings shown.

    seed: below 2**31, for the generators of torch, NumPy and Python.
    """
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            torch.enable_grad(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])
