"""CleverHans: any of its PyTorch attacks by name. Papernot et al., 2018, arXiv:1610.00768."""

from __future__ import annotations

import importlib.util
import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from benchmark.api import Access, Attack, Norm, Threat, hookimpl

from .._toolkit import imported, installed
from ._toolkits.bridge import Bridge, Method, methods_of
from ._toolkits.facade import Facade

ORDERS: dict[Norm, float | int] = {Norm.linf: np.inf, Norm.l2: 2, Norm.l1: 1}
METHODS = {
    **methods_of("fast_gradient_method", Norm.linf, Norm.l2, Norm.l1),
    **methods_of("projected_gradient_descent", Norm.linf, Norm.l2),
    **methods_of("carlini_wagner_l2", Norm.l2, minimal=True),
    **methods_of("hop_skip_jump_attack", Norm.l2, access=Access.labels, minimal=True, targeted=False),
    **methods_of("sparse_l1_descent", Norm.l1),
    **methods_of("spsa", Norm.linf, access=Access.scores),
    **methods_of("noise", Norm.linf, access=Access.labels, targeted=False),
}

LEFT_OUT = {"semantic": "inverts the image, which has no radius; attack=negative does that here"}
"""Attacks of CleverHans that are not offered, with the reason."""

MODULE = "cleverhans.torch.attacks"


@dataclass(frozen=True)
class CleverHans(Bridge):
    """An attack of CleverHans for PyTorch, by the name of its function.

    method, args, project, version: see `attack=foolbox`, whose settings all bridges share.
    """

    package: ClassVar[str] = "cleverhans"
    distribution: ClassVar[str] = "cleverhans"
    install: ClassVar[str] = "pip install 'adversarial-benchmark[cleverhans]'"
    known: ClassVar[dict[str, Method]] = METHODS
    owned: ClassVar[frozenset[str]] = frozenset(
        {
            "model_fn",
            "x",
            "y",
            "y_target",
            "image_target",
            "eps",
            "norm",
            "order",
            "constraint",
            "n_classes",
            "targeted",
        }
        | {"clip_min", "clip_max", "sanity_checks", "is_debug", "verbose"}
    )

    method: str = "fast_gradient_method"

    @classmethod
    def has(cls, name: str) -> bool:
        """True if there is a module of that name."""
        return installed("cleverhans") and importlib.util.find_spec(f"{MODULE}.{name}") is not None

    @classmethod
    def signature_of(cls, name: str) -> Callable[..., Any]:
        """Function of the attack."""
        found: Callable[..., Any] = getattr(imported(f"{MODULE}.{name}"), name)
        return found

    def gave_up(self, error: Exception) -> bool:
        """True if the l1 step failed its assertion of unit length, as for a zero gradient."""
        frames = traceback.extract_tb(error.__traceback__)
        return isinstance(error, AssertionError) and bool(frames) and frames[-1].name == "optimize_linear"

    def run(self, facade: Facade, x: Tensor, y: Tensor, *, threat: Threat, seed: int) -> Tensor:
        """Call the attack's function.

        `eps_iter` and `nb_iter` of projected_gradient_descent have no defaults; missing ones are set to eps / 10 and
        40.
        """
        named: dict[str, Any] = {
            "eps": threat.radius,
            "norm": ORDERS[threat.norm],
            "order": ORDERS[threat.norm],
            "constraint": ORDERS[threat.norm],
            "n_classes": facade.classes,
            "y": y,
            "targeted": threat.targeted,
            "clip_min": 0.0,
            "clip_max": 1.0,
            "sanity_checks": False,
            "verbose": False,
            "model_fn": facade,
            "x": x,
        }
        if self.method == "projected_gradient_descent":
            named |= {"eps_iter": threat.radius / 10, "nb_iter": 40}
        taken = inspect.signature(self.signature_of(self.method)).parameters
        call = {name: value for name, value in named.items() if name in taken} | self.args
        found = self.signature_of(self.method)(**call)
        return torch.as_tensor(found)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return CleverHans
