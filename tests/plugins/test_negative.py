"""Negative images, against figures computed by hand on the nearest-class-mean classifier of digits."""

from __future__ import annotations

from fractions import Fraction

import torch
from benchmark_plugins.attacks.negative import Negative

from benchmark.oracles.linear import nearest_class_mean
from benchmark.sampling import SampleRandom
from benchmark.system.target import Target
from benchmark.threat import Access, Norm, Region, RegionKind, Threat


def _negative(x: torch.Tensor, region: Region | None = None) -> torch.Tensor:
    rng = SampleRandom(0, torch.arange(len(x)))
    target = Target(torch.nn.Identity(), rng=rng, classes=10, access=Access.labels)
    threat = Threat(norm=Norm.linf, eps=Fraction(1, 10), region=region or Region())
    y = torch.zeros(len(x), dtype=torch.int64)
    x_adv: torch.Tensor = Negative().perturb(target, x, y, threat=threat, rng=rng)
    assert int(target.ledger.forwards.sum()) == 0
    return x_adv


def test_accuracy_on_negatives_is_what_it_is_known_to_be() -> None:
    problem = nearest_class_mean("digits")
    logits = problem.logits(_negative(problem.x.float()))
    top5 = (logits.topk(5, dim=1).indices == problem.y[:, None]).any(1)
    assert round(float((logits.argmax(1) == problem.y).double().mean()), 3) == 0.002
    assert round(float(top5.double().mean()), 3) == 0.022


def test_twice_is_the_input() -> None:
    x = torch.arange(0, 17).reshape(1, 1, 17, 1) / 16
    assert torch.equal(_negative(_negative(x)), x)


def test_the_region_is_kept() -> None:
    x = torch.full((2, 1, 6, 6), 0.25)
    x_adv = _negative(x, Region(RegionKind.square, 2))
    assert int((x_adv != x).sum()) == 2 * 4
    assert float(x_adv.max()) == 0.75
