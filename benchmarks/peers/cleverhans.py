"""CleverHans 4 (Papernot et al., arXiv:1610.00768), its PyTorch part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2
from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.torch.attacks.hop_skip_jump_attack import hop_skip_jump_attack
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from cleverhans.torch.attacks.sparse_l1_descent import sparse_l1_descent
from cleverhans.torch.attacks.spsa import spsa
from torch import Tensor, nn

from benchmarks.peers import Attacker, Budget

NORMS = {"linf": np.inf, "l2": 2}
BOX = {"clip_min": 0.0, "clip_max": 1.0}


def _attacker(attack: Callable[..., Tensor], model: nn.Module, *places: Any, **settings: Any) -> Attacker:
    def run(x: Tensor, y: Tensor) -> Tensor:
        return attack(model, x, *places, y=y, **settings, **BOX).detach()

    return run


def _fgsm(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(fast_gradient_method, model, budget.eps, NORMS[budget.norm])


def _pgd(model: nn.Module, budget: Budget) -> Attacker:
    places = (budget.eps, budget.step_size, budget.steps, NORMS[budget.norm])
    start = {"rand_init": budget.random_start, "sanity_checks": False}
    return _attacker(projected_gradient_descent, model, *places, **start)


def _pgd_l1(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"eps_iter": budget.step_size, "nb_iter": budget.steps, "rand_init": budget.random_start}
    return _attacker(sparse_l1_descent, model, eps=budget.eps, sanity_checks=False, **settings)


def _carlini_wagner(model: nn.Module, budget: Budget) -> Attacker:
    def run(x: Tensor, y: Tensor) -> Tensor:
        classes = model(x[:1]).shape[1]
        searches = {"binary_search_steps": budget.searches, "max_iterations": budget.steps, "lr": budget.step_size}
        candidates: Tensor = carlini_wagner_l2(model, x, classes, y=y, **searches, **BOX)
        return candidates.detach()

    return run


def _spsa(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"learning_rate": budget.step_size, "spsa_samples": 2 * budget.samples, "sanity_checks": False}
    return _attacker(spsa, model, budget.eps, budget.steps, **settings)


def _hop_skip_jump(model: nn.Module, budget: Budget) -> Attacker:
    def run(x: Tensor, y: Tensor) -> Tensor:
        settings = {"initial_num_evals": budget.samples, "num_iterations": budget.steps, "verbose": False}
        candidates: Tensor = hop_skip_jump_attack(model, x, NORMS[budget.norm], **settings, **BOX)
        return candidates.detach()

    return run


ATTACKS = {
    ("fgsm", "linf"): _fgsm,
    ("fgsm", "l2"): _fgsm,
    ("pgd", "linf"): _pgd,
    ("pgd", "l2"): _pgd,
    ("pgd", "l1"): _pgd_l1,
    ("carlini_wagner", "l2"): _carlini_wagner,
    ("spsa", "linf"): _spsa,
    ("hop_skip_jump", "linf"): _hop_skip_jump,
    ("hop_skip_jump", "l2"): _hop_skip_jump,
}
