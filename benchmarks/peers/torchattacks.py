"""torchattacks (Kim, arXiv:2010.01950). Its DeepFool goes example by example and often stops on the boundary."""

from __future__ import annotations

import torchattacks
from torch import nn

from benchmarks.peers import Attacker, Budget


def _fgsm(model: nn.Module, budget: Budget) -> Attacker:
    attack: Attacker = torchattacks.FGSM(model, eps=budget.eps)
    return attack


def _fgsm_l2(model: nn.Module, budget: Budget) -> Attacker:
    attack: Attacker = torchattacks.PGDL2(model, eps=budget.eps, alpha=budget.eps, steps=1, random_start=False)
    return attack


def _pgd(model: nn.Module, budget: Budget) -> Attacker:
    cls = {"linf": torchattacks.PGD, "l2": torchattacks.PGDL2}[budget.norm]
    attack: Attacker = cls(
        model, eps=budget.eps, alpha=budget.step_size, steps=budget.steps, random_start=budget.random_start
    )
    return attack


def _deepfool(model: nn.Module, budget: Budget) -> Attacker:
    attack: Attacker = torchattacks.DeepFool(model, steps=budget.steps, overshoot=0.02)
    return attack


ATTACKS = {
    ("fgsm", "linf"): _fgsm,
    ("fgsm", "l2"): _fgsm_l2,
    ("pgd", "linf"): _pgd,
    ("pgd", "l2"): _pgd,
    ("deepfool", "l2"): _deepfool,
}
