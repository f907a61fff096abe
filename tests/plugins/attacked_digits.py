"""Attacks on the nearest class mean of the digits, whose distances are known exactly."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import torch
from benchmark_plugins.attacks._base.active import AttackLoss
from benchmark_plugins.attacks.bim import BIM
from benchmark_plugins.attacks.deepfool import DeepFool
from benchmark_plugins.attacks.fgsm import FGSM
from benchmark_plugins.attacks.noise import Noise, NoiseKind
from benchmark_plugins.attacks.none import NoAttack
from benchmark_plugins.attacks.pgd import PGD
from torch import Tensor, nn

from benchmark.api import Attack
from benchmark.data import DataSpec
from benchmark.oracles.linear import nearest_class_mean
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.system.target import Ledger, Target
from benchmark.threat import Norm, Threat

DIGITS = nearest_class_mean("digits")

EXACT = {norm: DIGITS.distance(norm) for norm in Norm}

GRADIENT: tuple[Attack, ...] = (FGSM(), BIM(), PGD(), DeepFool())


@dataclasses.dataclass(frozen=True)
class Result:
    """x, y, x_adv: of the attacked rows, which are `rows` of the examples. broken: their predicted label is wanted."""

    rows: Tensor
    x: Tensor
    y: Tensor
    x_adv: Tensor
    broken: Tensor
    ledger: Ledger


def attack(
    method: Attack,
    norm: Norm = Norm.linf,
    eps: float | str = 0.1,
    *,
    model: nn.Module | None = None,
    x: Tensor = DIGITS.x,
    y: Tensor = DIGITS.y,
    classes: int = 10,
    rows: Tensor | None = None,
    seed: int = 0,
    batch: int = 512,
    randomized: bool = False,
    **threat: Any,
) -> Result:
    """Attack the rows that the model gets right (or `rows`), `batch` at a time."""
    system = System(DIGITS.model() if model is None else model, DataSpec(tuple(x.shape[1:]), classes))
    x, ids = x.float(), torch.arange(len(x))
    rng = SampleRandom(seed, ids)
    if rows is None:
        rows = (system.logits(x, rng).argmax(1) == y).nonzero().squeeze(1)
    allowed = Threat(norm, Fraction(str(eps)), **threat)
    wanted = (y + 1) % classes if allowed.targeted else y
    parts, ledgers = [], []
    for at in range(0, len(rows), batch):
        part = rows[at : at + batch]
        mine = rng.rows(part)
        target = Target(
            system,
            rng=mine.child("system"),
            classes=classes,
            access=allowed.access,
            queries=allowed.queries,
            eot=allowed.eot,
            randomized=randomized,
        )
        parts.append(method.perturb(target, x[part], wanted[part], threat=allowed, rng=mine))
        ledgers.append(target.ledger)
        assert bool(((parts[-1] >= 0) & (parts[-1] <= 1)).all())
        if not method.supports.minimal:
            assert bool(allowed.around(x[part], mine).audit(parts[-1]).inside.all())
    x_adv = torch.cat(parts)
    ledger = ledgers[0]
    ledger.forwards = torch.cat([part.forwards for part in ledgers])
    ledger.backwards = torch.cat([part.backwards for part in ledgers])
    said = system.logits(x_adv, rng.rows(rows)).argmax(1)
    return Result(rows, x[rows], y[rows], x_adv, (said == wanted[rows]) == allowed.targeted, ledger)


def robust(result: Result, total: int = 500) -> float:
    """The share of all examples that is right and stays so."""
    return int((~result.broken).sum()) / total


METHODS: tuple[Attack, ...] = (
    NoAttack(),
    *(Noise(kind, restarts=3) for kind in NoiseKind),
    FGSM(),
    FGSM(AttackLoss.margin),
    BIM(),
    BIM(steps=5, loss=AttackLoss.dlr),
    PGD(steps=10, restarts=2),
    PGD(steps=10, restarts=2, stop_on_success=False),
    PGD(steps=5, random_start=False, loss=AttackLoss.margin),
)
