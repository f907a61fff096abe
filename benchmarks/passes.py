"""The passes that an attack makes, noted, and made again without the attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.system import System

__all__ = ["Pass", "again", "noted"]


@dataclass
class Pass:
    """A forward pass of so many rows. graph: whether for gradients; backwards: how many were taken."""

    rows: int
    graph: bool
    backwards: int = 0


@contextmanager
def noted(system: System) -> Iterator[list[Pass]]:
    """The passes that the system makes meanwhile, in their order."""
    passes: list[Pass] = []

    def note(_: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        now = Pass(len(inputs[0]), output.requires_grad)
        passes.append(now)
        if now.graph:
            output.register_hook(lambda _: count(now))

    def count(which: Pass) -> None:
        which.backwards += 1

    handle = system.register_forward_hook(note)
    try:
        yield passes
    finally:
        handle.remove()


def again(system: System, x: Tensor, passes: list[Pass]) -> Callable[[], object]:
    """The same passes of the same numbers of rows, of inputs `x` (B, *S): what any such attack must at least take."""
    most = max((one.rows for one in passes), default=0)
    rows = x[torch.arange(most, device=x.device) % len(x)]

    def run() -> None:
        for one in passes:
            if not one.backwards:
                with torch.set_grad_enabled(one.graph):
                    system(rows[: one.rows])
                continue
            leaf = rows[: one.rows].clone().requires_grad_()
            output = system(leaf)
            cotangent = torch.ones_like(output)
            for left in reversed(range(one.backwards)):
                torch.autograd.grad(output, leaf, cotangent, retain_graph=left > 0)

    return run
