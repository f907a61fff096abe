"""Attacks under a detector that they know: what is refused is no success, and the nearest accepted input is exact here.

A linear classifier of two classes and a linear detector: two half-spaces, far from the ends of the box. Under l2 the
nearest point of both is a projection onto one or onto where their planes meet; under linf and l1 a linear program.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from benchmark.api import Attack, Norm
from benchmark.sampling import SampleRandom
from benchmark.system import Detector
from benchmark.system.target import Target
from benchmark.testing import contract
from benchmark.threat import Threat
from benchmark.threat.ball import distance

COUNT, SIZE = 8, 16
_DRAW = torch.Generator().manual_seed(3)


def _unit(*, beside: Tensor | None = None) -> Tensor:
    drawn: Tensor = torch.randn(SIZE, generator=_DRAW)
    drawn = drawn if beside is None else drawn - beside * (drawn @ beside)
    found: Tensor = drawn / drawn.norm()
    return found


SLOPE = _unit()
SUSPECT = 0.6 * SLOPE + 0.8 * _unit(beside=SLOPE)
"""The direction that the detector watches: the way to the other class is part of it."""

X = 0.5 + 0.05 * torch.randn(COUNT, SIZE, generator=_DRAW)
Y = torch.zeros(COUNT, dtype=torch.int64)
NEED = 0.15 + (X @ SLOPE).max() - X @ SLOPE
ROOM = 0.01 + (X @ SUSPECT).max() - X @ SUSPECT


class Classifier(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        ahead = (x.flatten(1) @ SLOPE - (X @ SLOPE).max() - 0.15) / 2.0
        return torch.stack([-ahead, ahead], 1)


class Watch:
    """A detector whose score is linear."""

    differentiable = True

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        return x.flatten(1) @ SUSPECT

    def suspicion_surrogate(self, model: nn.Module, x: Tensor) -> Tensor | None:
        return None


DETECTOR = Detector(Watch(), float((X @ SUSPECT).max()) + 0.01, 1.0)  # type: ignore[arg-type]


def exact(norm: Norm) -> Tensor:
    """Distance (COUNT,) of each input to the nearest that is taken for the other class and accepted."""
    if norm is Norm.l2:
        gram = torch.stack(
            [torch.stack([SLOPE @ SLOPE, SLOPE @ SUSPECT]), torch.stack([SLOPE @ SUSPECT, SUSPECT @ SUSPECT])]
        )
        one, other = torch.linalg.solve(gram.double(), torch.stack([NEED, ROOM]).double())
        both = (one[:, None] * SLOPE + other[:, None] * SUSPECT).norm(dim=1)
        return torch.where(NEED * (SLOPE @ SUSPECT) <= ROOM, NEED.double(), both)
    # change = up - down; under linf each is at most the radius, which is the last variable
    single, wide = np.eye(SIZE), norm is Norm.linf
    sides = np.stack([-SLOPE.numpy(), SUSPECT.numpy()])
    rows = np.concatenate([sides, -sides, np.zeros((2, 1))], 1)
    cost = np.r_[np.zeros(2 * SIZE) if wide else np.ones(2 * SIZE), 1.0 if wide else 0.0]
    over = np.concatenate([single, single, -np.ones((SIZE, 1))], 1) if wide else np.zeros((0, 2 * SIZE + 1))
    found = [
        linprog(cost, A_ub=np.concatenate([rows, over]), b_ub=np.r_[-float(need), float(room), np.zeros(len(over))]).fun
        for need, room in zip(NEED, ROOM, strict=True)
    ]
    return torch.tensor(found)


def far(attack: Attack, norm: Norm, *, aware: bool = True, queries: int | None = None) -> Tensor:
    """Distance (COUNT,) of what counts for that attacker, infinite where it found nothing."""
    ids, access = torch.arange(COUNT), attack.supports.access
    known = (DETECTOR,) if aware else ()
    target = Target(Classifier(), rng=SampleRandom(1, ids), classes=2, access=access, queries=queries, detectors=known)
    threat = Threat(norm, Fraction(1), access=access, queries=queries)
    x_adv = attack.perturb(target, X.clone(), Y.clone(), threat=threat, rng=SampleRandom(0, ids))
    counts = Classifier()(x_adv).argmax(1) == 1
    if aware:
        counts &= DETECTOR.margin(nn.Identity(), x_adv) <= 0
    return torch.where(counts, distance(x_adv, X, norm).double(), torch.inf)


@pytest.mark.parametrize(
    ("name", "norm", "median"),
    [
        ("fmn", Norm.l2, 1.01), ("fmn", Norm.linf, 1.02), ("fmn", Norm.l1, 1.02), ("ddn", Norm.l2, 1.3),
        ("alma", Norm.l2, 1.15), ("alma", Norm.l1, 1.01), ("pdpgd", Norm.l2, 1.45), ("pdpgd", Norm.linf, 1.05),
        ("lbfgs", Norm.l2, 1.02), ("gradient_descent", Norm.l2, 1.02), ("carlini_wagner", Norm.l2, 1.02),
        ("ead", Norm.l1, 1.05),
    ],
)  # fmt: skip
def test_the_nearest_accepted_input_is_found(name: str, norm: Norm, median: float) -> None:
    ratio = far(contract.build("attack", name), norm) / exact(norm)
    assert bool((ratio > 1 - 1e-4).all()), "nearer than possible"
    assert bool(ratio.isfinite().all()), "something is refused or right"
    assert float(ratio.median()) <= median


@pytest.mark.parametrize("name", ["boundary", "rays"])
def test_from_labels_what_is_refused_is_no_success(name: str) -> None:
    norm = Norm.linf if name == "rays" else Norm.l2
    ratio = far(contract.build("attack", name), norm, queries=3000) / exact(norm)
    assert bool((ratio > 1 - 1e-4).all())
    assert float(ratio.median()) <= 1.4


@pytest.mark.parametrize("name", ["square", "nes", "simba", "zoo", "apgd", "pgd", "fab", "deepfool"])
def test_asking_whether_a_success_is_accepted_keeps_to_the_budget(name: str) -> None:
    for queries in (1, 2, 7, 60):
        ratio = far(contract.build("attack", name), Norm.l2, queries=queries) / exact(Norm.l2)
        assert bool((ratio > 1 - 1e-4).all())


def test_who_does_not_know_the_detector_ignores_it() -> None:
    found = far(contract.build("attack", "fmn"), Norm.l2, aware=False)
    assert torch.allclose(found, NEED.double(), rtol=1e-2)
    assert float((found / exact(Norm.l2)).min()) < 0.98, "the detector asks for more"
