"""Other libraries' attacks behind one call, so that everybody gets the same model, inputs and budget.

A library is one file here: `ATTACKS` maps the name of an attack of ours to a function that prepares theirs. What is
prepared once is not timed; what is returned is called with a batch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["LIBRARIES", "Attacker", "Budget", "offers"]

LIBRARIES = ("foolbox", "torchattacks", "art", "cleverhans")


@dataclass(frozen=True)
class Budget:
    """What an attack may do, in the words of the plugins. norm: linf or l2. eps, step_size: in units of [0, 1]."""

    norm: str
    eps: float
    steps: int = 1
    step_size: float = 0.0
    random_start: bool = False


Attacker = Callable[[Tensor, Tensor], Tensor]
"""From x (B, *S) in [0, 1] and labels y (B,) to candidates (B, *S)."""

Builder = Callable[[nn.Module, Budget], Attacker]


def offers(attack: str, norm: str) -> dict[str, Builder]:
    """By library: how it runs this attack under this norm. Libraries that are not installed are left out."""
    found = {}
    for library in LIBRARIES:
        try:
            module = importlib.import_module(f"{__name__}.{library}")
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("benchmarks"):
                raise
            continue
        builders: Mapping[tuple[str, str], Builder] = module.ATTACKS
        if (attack, norm) in builders:
            found[library] = builders[attack, norm]
    return found
