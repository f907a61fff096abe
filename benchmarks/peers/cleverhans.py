"""CleverHans 4 (Papernot et al., arXiv:1610.00768), its PyTorch part."""

from __future__ import annotations

import numpy as np
from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from torch import Tensor, nn

from benchmarks.peers import Attacker, Budget

NORMS = {"linf": np.inf, "l2": 2}


def _fgsm(model: nn.Module, budget: Budget) -> Attacker:
    def run(x: Tensor, y: Tensor) -> Tensor:
        candidates: Tensor = fast_gradient_method(
            model, x, budget.eps, NORMS[budget.norm], clip_min=0.0, clip_max=1.0, y=y
        )
        return candidates.detach()

    return run


def _pgd(model: nn.Module, budget: Budget) -> Attacker:
    def run(x: Tensor, y: Tensor) -> Tensor:
        candidates: Tensor = projected_gradient_descent(
            model,
            x,
            budget.eps,
            budget.step_size,
            budget.steps,
            NORMS[budget.norm],
            clip_min=0.0,
            clip_max=1.0,
            y=y,
            rand_init=budget.random_start,
            sanity_checks=False,
        )
        return candidates.detach()

    return run


ATTACKS = {(name, norm): builder for name, builder in (("fgsm", _fgsm), ("pgd", _pgd)) for norm in ("linf", "l2")}
