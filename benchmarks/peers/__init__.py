"""Other libraries' attacks behind one call, so that everybody gets the same model, inputs and budget.

A library is one file here: `ATTACKS` maps the name of an attack of ours to a function that prepares theirs. What is
prepared once is not timed; what is returned is called with a batch.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["LIBRARIES", "Attacker", "Budget", "Builder", "offers", "reseeded"]

LIBRARIES = ("autoattack", "adversarial_library", "foolbox", "torchattacks", "art", "cleverhans")


@dataclass(frozen=True)
class Budget:
    """The budget of an attack, in the words of the plugins.

    norm: linf, l2, l1 or l0. eps, step_size: in units of [0, 1]. searches: how many constants or starts are tried.
    samples: queries per estimate, or candidates per generation. loss: ce or dlr.
    """

    norm: str
    eps: float
    steps: int = 1
    step_size: float = 0.0
    random_start: bool = False
    searches: int = 1
    samples: int = 1
    loss: str = "ce"


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


def reseeded(attack: Any, run: Attacker) -> Attacker:
    """`run` with another `attack.seed` each time: some attacks seed the global generator with it in every call.

    With the one number that is their default, several runs of theirs would be one.
    """
    seeds = itertools.count()

    def with_next_seed(x: Tensor, y: Tensor) -> Tensor:
        attack.seed = next(seeds)
        return run(x, y)

    return with_next_seed
