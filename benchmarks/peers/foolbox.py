"""Foolbox (Rauber et al., JOSS 2020)."""

from __future__ import annotations

from typing import Any

import foolbox
from torch import Tensor, nn

from benchmarks.peers import Attacker, Budget

NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def _attacker(model: nn.Module, attack: Any, eps: float | None) -> Attacker:
    bounded = foolbox.PyTorchModel(model, bounds=(0, 1), device=next(model.parameters()).device)

    def run(x: Tensor, y: Tensor) -> Tensor:
        _, clipped, _ = attack(bounded, x, y, epsilons=eps)
        candidates: Tensor = clipped
        return candidates

    return run


def _fgsm(model: nn.Module, budget: Budget) -> Attacker:
    cls = getattr(foolbox.attacks, f"{NORMS[budget.norm]}FastGradientAttack")
    return _attacker(model, cls(random_start=budget.random_start), budget.eps)


def _pgd(model: nn.Module, budget: Budget) -> Attacker:
    cls = getattr(foolbox.attacks, f"{NORMS[budget.norm]}ProjectedGradientDescentAttack")
    attack = cls(abs_stepsize=budget.step_size, steps=budget.steps, random_start=budget.random_start)
    return _attacker(model, attack, budget.eps)


def _mi_fgsm(model: nn.Module, budget: Budget) -> Attacker:
    cls = getattr(foolbox.attacks, f"{NORMS[budget.norm]}MomentumIterativeFastGradientMethod")
    return _attacker(model, cls(abs_stepsize=budget.step_size, steps=budget.steps), budget.eps)


def _deepfool(model: nn.Module, budget: Budget) -> Attacker:
    cls = {"linf": foolbox.attacks.LinfDeepFoolAttack, "l2": foolbox.attacks.L2DeepFoolAttack}[budget.norm]
    return _attacker(model, cls(steps=budget.steps, candidates=10, overshoot=0.02), None)


def _carlini_wagner(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"binary_search_steps": budget.searches, "steps": budget.steps, "stepsize": budget.step_size}
    return _attacker(model, foolbox.attacks.L2CarliniWagnerAttack(**settings), None)


def _ead(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"binary_search_steps": budget.searches, "steps": budget.steps, "initial_stepsize": budget.step_size}
    return _attacker(model, foolbox.attacks.EADAttack(decision_rule="L1", **settings), None)


def _ddn(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(model, foolbox.attacks.DDNAttack(steps=budget.steps), None)


def _fmn(model: nn.Module, budget: Budget) -> Attacker:
    names = {"linf": "LInfFMNAttack", "l2": "L2FMNAttack", "l1": "L1FMNAttack", "l0": "L0FMNAttack"}
    return _attacker(model, getattr(foolbox.attacks, names[budget.norm])(steps=budget.steps), None)


def _boundary(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(model, foolbox.attacks.BoundaryAttack(steps=budget.steps), None)


def _hop_skip_jump(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"initial_gradient_eval_steps": budget.samples, "constraint": budget.norm}
    return _attacker(model, foolbox.attacks.HopSkipJumpAttack(steps=budget.steps, **settings), None)


def _pointwise(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(model, foolbox.attacks.PointwiseAttack(l2_binary_search=False), None)


ATTACKS = {
    (name, norm): builder
    for name, builder, norms in (
        ("fgsm", _fgsm, ("linf", "l2", "l1")),
        ("bim", _pgd, ("linf", "l2", "l1")),
        ("pgd", _pgd, ("linf", "l2", "l1")),
        ("mi_fgsm", _mi_fgsm, ("linf", "l2")),
        ("deepfool", _deepfool, ("linf", "l2")),
        ("carlini_wagner", _carlini_wagner, ("l2",)),
        ("ead", _ead, ("l1",)),
        ("ddn", _ddn, ("l2",)),
        ("fmn", _fmn, ("linf", "l2", "l1", "l0")),
        ("boundary", _boundary, ("l2",)),
        ("hop_skip_jump", _hop_skip_jump, ("linf", "l2")),
        ("pointwise", _pointwise, ("l0",)),
    )
    for norm in norms
}
