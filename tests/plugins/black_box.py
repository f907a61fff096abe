"""Runs black-box attacks on models whose exact distances are known."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.api import Attack
from benchmark.data import DataSpec, Examples
from benchmark.oracles.linear import nearest_class_mean
from benchmark.sampling import SampleRandom
from benchmark.stages.settle import with_fixed_region
from benchmark.system import System
from benchmark.system.references import References
from benchmark.system.target import Target
from benchmark.threat import Norm, Threat
from benchmark.threat.ball import distance

DIGITS = nearest_class_mean("digits")
EXACT = {norm: DIGITS.distance(norm) for norm in Norm}
CORRECT = (DIGITS.logits(DIGITS.x).argmax(1) == DIGITS.y).nonzero().squeeze(1)


@dataclasses.dataclass(frozen=True)
class Result:
    """x_adv: (N, *S) of the attacked rows. broken: (N,) bool. forwards: (N,) int64. far: (N,) float64."""

    x: Tensor
    x_adv: Tensor
    broken: Tensor
    forwards: Tensor
    far: Tensor
    exact: Tensor

    @property
    def ratio(self) -> Tensor:
        """Of the distance to the exact one, for the broken rows."""
        return (self.far / self.exact)[self.broken]


def attack(
    method: Attack,
    norm: Norm,
    eps: float | str = 1,
    *,
    rows: Tensor = CORRECT,
    model: nn.Module | None = None,
    x: Tensor = DIGITS.x,
    y: Tensor = DIGITS.y,
    classes: int = 10,
    batch: int = 512,
    seed: int = 0,
    **threat: Any,
) -> Result:
    """Attack `rows` of the digits, or of `x` and `y` with a `model`, under the attack's own access."""
    spec = DataSpec(tuple(x.shape[1:]), classes)
    system = System(DIGITS.model() if model is None else model, spec)
    allowed = Threat(norm, Fraction(str(eps)), **{"access": method.supports.access, **threat})
    rng = SampleRandom(seed, rows)
    wanted = ((y + 1) % classes if allowed.targeted else y)[rows]
    owned = References.of(Examples.of(torch.arange(len(x)), x, y), classes)
    found, spent = [], []
    for part in torch.arange(len(rows)).split(batch):
        mine = rng.rows(part)
        clean = x[rows[part]].float()
        settled = with_fixed_region(allowed, system, clean, y[rows[part]], mine)
        ball = settled.around(clean, mine)
        target = Target(
            system, rng=mine, classes=classes, access=allowed.access, queries=allowed.queries, ball=ball, owned=owned
        )
        x_adv = ball.quantise(method.perturb(target, clean, wanted[part], threat=settled, rng=mine))
        ball = (settled.unbounded() if method.supports.minimal else settled).around(clean, mine)
        assert bool(ball.audit(x_adv).inside.all())
        found.append(x_adv)
        spent.append(target.ledger.forwards)
        if allowed.queries is not None:
            assert bool((target.ledger.forwards <= allowed.queries).all())
    x_adv = torch.cat(found)
    said = system.logits(x_adv, rng).argmax(1)
    broken = (said == wanted) == allowed.targeted
    clean = x[rows].float()
    exact = EXACT[norm][rows] if x is DIGITS.x else torch.zeros(len(rows))
    return Result(clean, x_adv, broken, torch.cat(spent), distance(x_adv, clean, norm), exact)
