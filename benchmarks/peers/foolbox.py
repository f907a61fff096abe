"""Foolbox (Rauber et al., JOSS 2020)."""

from __future__ import annotations

from typing import Any

import foolbox
from torch import Tensor, nn

from benchmarks.peers import Attacker, Budget


def _attacker(model: nn.Module, attack: Any, eps: float | None) -> Attacker:
    bounded = foolbox.PyTorchModel(model, bounds=(0, 1), device=next(model.parameters()).device)

    def run(x: Tensor, y: Tensor) -> Tensor:
        _, clipped, _ = attack(bounded, x, y, epsilons=eps)
        candidates: Tensor = clipped
        return candidates

    return run


def _fgsm(model: nn.Module, budget: Budget) -> Attacker:
    cls = {"linf": foolbox.attacks.LinfFastGradientAttack, "l2": foolbox.attacks.L2FastGradientAttack}[budget.norm]
    return _attacker(model, cls(random_start=budget.random_start), budget.eps)


def _pgd(model: nn.Module, budget: Budget) -> Attacker:
    cls = {
        "linf": foolbox.attacks.LinfProjectedGradientDescentAttack,
        "l2": foolbox.attacks.L2ProjectedGradientDescentAttack,
    }[budget.norm]
    attack = cls(abs_stepsize=budget.step_size, steps=budget.steps, random_start=budget.random_start)
    return _attacker(model, attack, budget.eps)


def _deepfool(model: nn.Module, budget: Budget) -> Attacker:
    cls = {"linf": foolbox.attacks.LinfDeepFoolAttack, "l2": foolbox.attacks.L2DeepFoolAttack}[budget.norm]
    return _attacker(model, cls(steps=budget.steps, candidates=10, overshoot=0.02), None)


ATTACKS = {
    (name, norm): f for name, f in (("fgsm", _fgsm), ("pgd", _pgd), ("deepfool", _deepfool)) for norm in ("linf", "l2")
}
