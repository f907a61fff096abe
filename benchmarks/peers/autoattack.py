"""AutoAttack and its parts by their authors (Croce & Hein, ICML 2020), as packaged in pyautoattack."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

from pyautoattack import AutoAttack
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

from benchmarks.peers import Attacker, Budget, reseeded

NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def _settings(model: nn.Module, budget: Budget) -> dict[str, Any]:
    return {"norm": NORMS[budget.norm], "eps": budget.eps, "device": next(model.parameters()).device}


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _quiet(attack: Any) -> Attacker:
    def run(x: Tensor, y: Tensor) -> Tensor:
        with _silence():
            candidates: Tensor = attack.perturb(x, y)
        return candidates

    return reseeded(attack, run)


def _apgd(model: nn.Module, budget: Budget) -> Attacker:
    settings = _settings(model, budget)
    return _quiet(APGDAttack(model, n_iter=budget.steps, n_restarts=budget.searches, loss=budget.loss, **settings))


def _apgd_targeted(model: nn.Module, budget: Budget) -> Attacker:
    return _quiet(APGDAttack_targeted(model, n_iter=budget.steps, **_settings(model, budget)))


def _fab(model: nn.Module, budget: Budget) -> Attacker:
    settings = {**_settings(model, budget), "eps": 1e3}  # an example is returned only if it is nearer than eps
    return _quiet(FABAttack_PT(model, n_iter=budget.steps, **settings))


def _square(model: nn.Module, budget: Budget) -> Attacker:
    return _quiet(SquareAttack(model, n_queries=budget.steps, **_settings(model, budget)))


def _autoattack(model: nn.Module, budget: Budget) -> Attacker:
    attack = AutoAttack(model, version="standard", **_settings(model, budget))

    def run(x: Tensor, y: Tensor) -> Tensor:
        with _silence():
            candidates: Tensor = attack.run_standard_evaluation(x, y)[0]
        return candidates

    return run


ATTACKS = {
    (name, norm): builder
    for name, builder in (
        ("apgd", _apgd),
        ("apgd_targeted", _apgd_targeted),
        ("fab", _fab),
        ("square", _square),
        ("autoattack", _autoattack),
    )
    for norm in NORMS
}
