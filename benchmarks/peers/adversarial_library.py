"""adversarial-library (Rony & Ben Ayed), the package adv-lib."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from benchmarks.peers import Attacker, Budget


@contextlib.contextmanager
def _without_plots() -> Iterator[None]:
    """Empty modules in the place of two that it imports for plots and a perceptual distance, not needed here."""
    missing = [name for name in ("visdom", "torchvision", "torchvision.models") if name not in sys.modules]
    for name in missing:
        sys.modules[name] = ModuleType(name)
    sys.modules["torchvision"].models = sys.modules["torchvision.models"]  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


with _without_plots():
    from adv_lib import attacks

NORMS = {"linf": float("inf"), "l2": 2, "l1": 1, "l0": 0}


def _attacker(attack: Callable[..., Tensor], model: nn.Module, **settings: Any) -> Attacker:
    def run(x: Tensor, y: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return attack(model, x, y, **settings)

    return run


def _pgd(model: nn.Module, budget: Budget) -> Attacker:
    start = {"random_init": budget.random_start, "absolute_step_size": budget.step_size}
    return _attacker(attacks.pgd_linf, model, ε=budget.eps, steps=budget.steps, **start)


def _apgd(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"norm": NORMS[budget.norm], "eps": budget.eps, "n_iter": budget.steps, "n_restarts": budget.searches}
    return _attacker(attacks.apgd, model, loss_function=budget.loss, **settings)


def _apgd_targeted(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"norm": NORMS[budget.norm], "eps": budget.eps, "n_iter": budget.steps}
    return _attacker(attacks.apgd_targeted, model, num_targets=9, **settings)


def _fab(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(attacks.fab, model, norm=NORMS[budget.norm], n_iter=budget.steps)


def _deepfool(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(attacks.df, model, norm=NORMS[budget.norm], steps=budget.steps)


def _superdeepfool(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(attacks.sdf, model, steps=budget.searches, df_steps=budget.steps)


def _carlini_wagner(model: nn.Module, budget: Budget) -> Attacker:
    if budget.norm == "linf":
        return _attacker(attacks.carlini_wagner_linf, model, max_iterations=budget.steps)
    searches = {"binary_search_steps": budget.searches, "max_iterations": budget.steps}
    return _attacker(attacks.carlini_wagner_l2, model, learning_rate=budget.step_size, **searches)


def _ddn(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(attacks.ddn, model, steps=budget.steps, levels=None)


def _fmn(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(attacks.fmn, model, norm=NORMS[budget.norm], steps=budget.steps)


def _alma(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(attacks.alma, model, distance=budget.norm, num_steps=budget.steps)


def _pdpgd(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(attacks.pdpgd, model, norm=NORMS[budget.norm], num_steps=budget.steps)


def _sigma_zero(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(attacks.sigma_zero, model, num_steps=budget.steps)


ATTACKS = {
    (name, norm): builder
    for name, builder, norms in (
        ("pgd", _pgd, ("linf",)),
        ("apgd", _apgd, ("linf", "l2", "l1")),
        ("apgd_targeted", _apgd_targeted, ("linf", "l2", "l1")),
        ("fab", _fab, ("linf", "l2", "l1")),
        ("deepfool", _deepfool, ("linf", "l2")),
        ("superdeepfool", _superdeepfool, ("l2",)),
        ("carlini_wagner", _carlini_wagner, ("linf", "l2")),
        ("ddn", _ddn, ("l2",)),
        ("fmn", _fmn, ("linf", "l2", "l1", "l0")),
        ("alma", _alma, ("l2", "l1")),
        ("pdpgd", _pdpgd, ("linf", "l2", "l1")),
        ("sigma_zero", _sigma_zero, ("l0",)),
    )
    for norm in norms
}
