"""Adversarial Robustness Toolbox (Nicolae et al., arXiv:1807.01069): NumPy in, NumPy out."""

from __future__ import annotations

from typing import Any

import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from benchmarks.peers import Attacker, Budget

NORMS = {"linf": "inf", "l2": 2}


def _attacker(model: nn.Module, cls: Any, budget: Budget, **settings: Any) -> Attacker:
    made: dict[tuple[int, ...], Any] = {}

    def attack_for(x: Tensor, y: Tensor) -> Any:
        shape = tuple(x.shape[1:])
        if shape not in made:
            classes = model(x[:1]).shape[1]
            wrapped = PyTorchClassifier(
                model,
                nn.CrossEntropyLoss(),
                shape,
                classes,
                clip_values=(0.0, 1.0),
                device_type="gpu" if x.is_cuda else "cpu",
            )
            made[shape] = cls(wrapped, norm=NORMS[budget.norm], eps=budget.eps, batch_size=len(x), **settings)
        return made[shape]

    def run(x: Tensor, y: Tensor) -> Tensor:
        attack = attack_for(x, y)
        return torch.from_numpy(attack.generate(x.cpu().numpy(), y.cpu().numpy())).to(x.device)

    return run


def _fgsm(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(model, FastGradientMethod, budget)


def _pgd(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(
        model,
        ProjectedGradientDescent,
        budget,
        eps_step=budget.step_size,
        max_iter=budget.steps,
        num_random_init=int(budget.random_start),
        verbose=False,
    )


ATTACKS = {(name, norm): builder for name, builder in (("fgsm", _fgsm), ("pgd", _pgd)) for norm in ("linf", "l2")}
