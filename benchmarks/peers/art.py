"""Adversarial Robustness Toolbox (Nicolae et al., arXiv:1807.01069): NumPy in, NumPy out."""

from __future__ import annotations

import contextlib
import inspect
import io
import tempfile
import warnings
from typing import Any
from unittest import mock

import numpy as np
import torch
from art.attacks import evasion
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from benchmarks.peers import Attacker, Budget, Builder

NORMS = {"linf": "inf", "l2": 2, "l1": 1}


class _Probabilities(nn.Module):
    """ART's black-box attacks on scores expect probabilities."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        probabilities: Tensor = self.model(x).softmax(1)
        return probabilities


class _Single(nn.Module):
    """ART's attacks on labels hand in double precision."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x.float())
        return logits


def _attacker(model: nn.Module, cls: Any, **settings: Any) -> Attacker:
    made: dict[tuple[int, ...], Any] = {}

    def attack_for(x: Tensor) -> Any:
        shape = tuple(x.shape)
        if shape not in made:
            wrapped = PyTorchClassifier(
                model,
                nn.CrossEntropyLoss(),
                shape[1:],
                model(x[:1]).shape[1],
                clip_values=(0.0, 1.0),
                device_type="gpu" if x.is_cuda else "cpu",
            )
            size = {"batch_size": len(x)} if "batch_size" in inspect.signature(cls).parameters else {}
            quiet = {"verbose": False} if "verbose" in inspect.signature(cls).parameters else {}
            made[shape] = cls(wrapped, **{**size, **quiet, **settings})
        return made[shape]

    def run(x: Tensor, y: Tensor) -> Tensor:
        attack = attack_for(x)
        # GeoDA calls `mat`, which NumPy 2 has no more, and leaves a file where it is run.
        renamed = mock.patch.object(np, "mat", np.asmatrix, create=True)
        elsewhere = contextlib.chdir(tempfile.gettempdir())
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), renamed, elsewhere:
            warnings.simplefilter("ignore")
            return torch.from_numpy(attack.generate(x.cpu().numpy(), y.cpu().numpy())).to(x)

    return run


def _stepped(cls: Any) -> Builder:
    def build(model: nn.Module, budget: Budget) -> Attacker:
        settings = {"eps_step": budget.step_size, "max_iter": budget.steps}
        norm = {"norm": NORMS[budget.norm]} if "norm" in inspect.signature(cls).parameters else {}
        start = {"num_random_init": int(budget.random_start)} if cls is evasion.ProjectedGradientDescent else {}
        return _attacker(model, cls, eps=budget.eps, **settings, **norm, **start)

    return build


def _fgsm(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(model, evasion.FastGradientMethod, norm=NORMS[budget.norm], eps=budget.eps)


def _apgd(model: nn.Module, budget: Budget) -> Attacker:
    loss = {"ce": "cross_entropy", "dlr": "difference_logits_ratio"}[budget.loss]
    settings = {"eps": budget.eps, "eps_step": 2 * budget.eps, "nb_random_init": budget.searches}
    cls = evasion.AutoProjectedGradientDescent
    return _attacker(model, cls, norm=NORMS[budget.norm], max_iter=budget.steps, loss_type=loss, **settings)


def _square(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"norm": NORMS[budget.norm], "eps": budget.eps, "max_iter": budget.steps}
    return _attacker(model, evasion.SquareAttack, **settings)


def _deepfool(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(model, evasion.DeepFool, max_iter=budget.steps, nb_grads=10, epsilon=0.02)


def _searched(cls: Any) -> Builder:
    def build(model: nn.Module, budget: Budget) -> Attacker:
        searches = (
            {"binary_search_steps": budget.searches}
            if "binary_search_steps" in inspect.signature(cls).parameters
            else {}
        )
        return _attacker(model, cls, max_iter=budget.steps, learning_rate=budget.step_size, **searches)

    return build


def _jsma(model: nn.Module, budget: Budget) -> Attacker:
    attack = _attacker(model, evasion.SaliencyMapMethod, theta=1.0, gamma=budget.eps)
    return lambda x, y: attack(x, nn.functional.one_hot((y + 1) % 10, 10))


def _one_pixel(model: nn.Module, budget: Budget) -> Attacker:
    return _attacker(model, evasion.PixelAttack, th=1, max_iter=budget.steps)


def _zoo(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"max_iter": budget.steps, "binary_search_steps": budget.searches, "nb_parallel": budget.samples}
    plain = {"use_resize": False, "use_importance": False, "initial_const": 0.5, "variable_h": 0.01}
    plain["abort_early"] = False  # the whole budget
    return _attacker(
        _Probabilities(model), evasion.ZooAttack, learning_rate=budget.step_size, batch_size=1, **settings, **plain
    )


def _simba(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"attack": "px", "epsilon": budget.step_size, "max_iter": budget.steps, "batch_size": 1}
    attack = _attacker(_Probabilities(model), evasion.SimBA, **settings)
    return lambda x, y: attack(x, nn.functional.one_hot(y))


def _boundary(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"max_iter": budget.steps, "num_trial": 1, "sample_size": 20}
    return _attacker(_Single(model), evasion.BoundaryAttack, targeted=False, **settings)


def _hop_skip_jump(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"norm": NORMS[budget.norm], "max_iter": budget.steps, "init_eval": budget.samples}
    return _attacker(_Single(model), evasion.HopSkipJump, **settings)


def _geoda(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"norm": NORMS[budget.norm], "max_iter": budget.samples, "sub_dim": 8, "bin_search_tol": 0.001}
    return _attacker(_Single(model), evasion.GeoDA, **settings)


def _sign_opt(model: nn.Module, budget: Budget) -> Attacker:
    settings = {"max_iter": budget.steps, "k": budget.samples, "query_limit": 10**9}
    return _attacker(model, evasion.SignOPTAttack, targeted=False, **settings)


ATTACKS: dict[tuple[str, str], Builder] = {
    (name, norm): builder
    for name, builder, norms in (
        ("fgsm", _fgsm, ("linf", "l2", "l1")),
        ("bim", _stepped(evasion.BasicIterativeMethod), ("linf",)),
        ("pgd", _stepped(evasion.ProjectedGradientDescent), ("linf", "l2", "l1")),
        ("mi_fgsm", _stepped(evasion.MomentumIterativeMethod), ("linf", "l2")),
        ("apgd", _apgd, ("linf", "l2")),
        ("square", _square, ("linf", "l2")),
        ("deepfool", _deepfool, ("l2",)),
        ("carlini_wagner", _searched(evasion.CarliniL2Method), ("l2",)),
        ("carlini_wagner", _searched(evasion.CarliniLInfMethod), ("linf",)),
        ("carlini_wagner", _searched(evasion.CarliniL0Method), ("l0",)),
        ("ead", _searched(evasion.ElasticNet), ("l1",)),
        ("jsma", _jsma, ("l0",)),
        ("one_pixel", _one_pixel, ("l0",)),
        ("zoo", _zoo, ("l2",)),
        ("simba", _simba, ("l2",)),
        ("boundary", _boundary, ("l2",)),
        ("hop_skip_jump", _hop_skip_jump, ("linf", "l2")),
        ("geoda", _geoda, ("l2",)),
        ("sign_opt", _sign_opt, ("l2",)),
    )
    for norm in norms
}
