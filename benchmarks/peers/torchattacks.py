"""torchattacks (Kim, arXiv:2010.01950).

Its DeepFool goes example by example and often stops on the boundary; its JSMA is Papernot's, for ten classes.
"""

from __future__ import annotations

import torchattacks
from torch import nn

from benchmarks.peers import Attacker, Budget, Builder, reseeded

NORMS = {"linf": "Linf", "l2": "L2"}


def _fgsm(model: nn.Module, budget: Budget) -> Attacker:
    attack: Attacker = torchattacks.FGSM(model, eps=budget.eps)
    return attack


def _fgsm_l2(model: nn.Module, budget: Budget) -> Attacker:
    attack: Attacker = torchattacks.PGDL2(model, eps=budget.eps, alpha=budget.eps, steps=1, random_start=False)
    return attack


def _bim(model: nn.Module, budget: Budget) -> Attacker:
    attack: Attacker = torchattacks.BIM(model, eps=budget.eps, alpha=budget.step_size, steps=budget.steps)
    return attack


def _pgd(model: nn.Module, budget: Budget) -> Attacker:
    cls = {"linf": torchattacks.PGD, "l2": torchattacks.PGDL2}[budget.norm]
    attack: Attacker = cls(
        model, eps=budget.eps, alpha=budget.step_size, steps=budget.steps, random_start=budget.random_start
    )
    return attack


def _transfer(name: str, **settings: float) -> Builder:
    def build(model: nn.Module, budget: Budget) -> Attacker:
        made = getattr(torchattacks, name)
        attack: Attacker = made(model, eps=budget.eps, alpha=budget.step_size, steps=budget.steps, **settings)
        return attack

    return build


def _apgd(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"norm": NORMS[budget.norm], "eps": budget.eps, "steps": budget.steps, "loss": budget.loss}
    attack: Attacker = torchattacks.APGD(model, n_restarts=budget.searches, **settings)
    return reseeded(attack, attack)


def _square(model: nn.Module, budget: Budget) -> Attacker:
    attack: Attacker = torchattacks.Square(model, norm=NORMS[budget.norm], eps=budget.eps, n_queries=budget.steps)
    return reseeded(attack, attack)


def _deepfool(model: nn.Module, budget: Budget) -> Attacker:
    attack: Attacker = torchattacks.DeepFool(model, steps=budget.steps, overshoot=0.02)
    return attack


def _ead(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"binary_search_steps": budget.searches, "max_iterations": budget.steps, "beta": 0.01}
    attack: Attacker = torchattacks.EADL1(model, lr=budget.step_size, **settings)
    return attack


def _jsma(model: nn.Module, budget: Budget) -> Attacker:
    attack: Attacker = torchattacks.JSMA(model, theta=1.0, gamma=budget.eps)
    return attack


def _one_pixel(model: nn.Module, budget: Budget) -> Attacker:
    attack: Attacker = torchattacks.OnePixel(model, pixels=1, steps=budget.steps, popsize=budget.samples)
    return attack


def _spsa(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"nb_iter": budget.steps, "nb_sample": budget.samples, "max_batch_size": budget.samples}
    attack: Attacker = torchattacks.SPSA(model, eps=budget.eps, delta=0.01, lr=budget.step_size, **settings)
    return attack


ATTACKS: dict[tuple[str, str], Builder] = {
    ("fgsm", "linf"): _fgsm,
    ("fgsm", "l2"): _fgsm_l2,
    ("bim", "linf"): _bim,
    ("pgd", "linf"): _pgd,
    ("pgd", "l2"): _pgd,
    ("mi_fgsm", "linf"): _transfer("MIFGSM"),
    ("ni_fgsm", "linf"): _transfer("NIFGSM"),
    ("si_fgsm", "linf"): _transfer("SINIFGSM"),
    ("di_fgsm", "linf"): _transfer("DIFGSM", decay=1.0),
    ("ti_fgsm", "linf"): _transfer("TIFGSM", decay=1.0, len_kernel=7, diversity_prob=0.0),
    ("vmi_fgsm", "linf"): _transfer("VMIFGSM"),
    ("apgd", "linf"): _apgd,
    ("apgd", "l2"): _apgd,
    ("square", "linf"): _square,
    ("square", "l2"): _square,
    ("deepfool", "l2"): _deepfool,
    ("ead", "l1"): _ead,
    ("jsma", "l0"): _jsma,
    ("one_pixel", "l0"): _one_pixel,
    ("spsa", "linf"): _spsa,
}
