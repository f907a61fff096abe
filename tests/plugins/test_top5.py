"""The goal top5: an example is broken when its label is no longer among the five highest scores."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from benchmark_plugins.attacks.apgd import APGD, APGDLoss
from benchmark_plugins.attacks.autoattack import AutoAttack
from benchmark_plugins.attacks.carlini_wagner import CarliniWagner
from benchmark_plugins.attacks.ddn import DDN
from benchmark_plugins.attacks.deepfool import DeepFool
from benchmark_plugins.attacks.fmn import FMN
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.attacks.square import Square
from scipy.optimize import linprog
from torch import Tensor, nn

from benchmark import registry
from benchmark.api import Attack
from benchmark.config.check import check_attack, check_goal
from benchmark.data import DataSpec, Examples
from benchmark.errors import Refused
from benchmark.oracles.linear import LinearClassifier
from benchmark.records.outcomes import Outcomes
from benchmark.registry.catalogue import catalogue
from benchmark.sampling import SampleRandom
from benchmark.stages.batch import Job, attack_batch
from benchmark.stages.judge import answer
from benchmark.system import System
from benchmark.threat import Goal, Norm, Threat

CLASSES = 10
COUNT = 12


def world(features: int = 6) -> tuple[LinearClassifier, Tensor, Tensor]:
    """A linear classifier of ten classes, with inputs in the middle of the box: x (N, D), and labels (N,)."""
    draw = torch.Generator().manual_seed(3)
    weight = torch.randn(CLASSES, features, generator=draw)
    model = LinearClassifier(weight, torch.zeros(CLASSES))
    x = 0.5 + 0.08 * torch.randn(COUNT, features, generator=draw)
    model.bias.data = -(weight @ torch.full((features,), 0.5)) + 0.05 * torch.randn(CLASSES, generator=draw)
    return model, x, model(x).argmax(1).detach()


def exact(model: LinearClassifier, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """(N,) float64: the distance at which five other classes have scores as high as the label's.

    The least over the sets of five classes of the distance to the polyhedron where all five are as high: under l2 that
    to one of the faces of the polyhedron, under linf a linear program.
    """
    weight, bias = model.weight.detach().double(), model.bias.detach().double()
    found = []
    for point, label in zip(x.double(), y.tolist(), strict=True):
        slope = weight - weight[label]
        short = -(slope @ point + bias - bias[label])  # slope . delta >= short
        alone = short / (slope.norm(dim=1) if norm is Norm.l2 else slope.abs().sum(1))
        sets = itertools.combinations([k for k in range(CLASSES) if k != label], 5)
        best = torch.inf
        for rows in sorted(([*s] for s in sets), key=lambda s: float(alone[s].max())):
            if float(alone[rows].max()) >= best:
                break
            best = min(best, _to_polyhedron(slope[rows], short[rows], point, norm))
        found.append(best)
    return torch.tensor(found, dtype=torch.float64)


def _to_polyhedron(a: Tensor, b: Tensor, x: Tensor, norm: Norm) -> float:
    """The norm of the smallest delta with a @ delta >= b; under linf x + delta in the box."""
    if norm is Norm.linf:
        rows = torch.cat([-a, torch.zeros(len(a), 1)], 1)
        sides = torch.cat([torch.eye(len(x)), -torch.eye(len(x))])
        rows = torch.cat([rows, torch.cat([sides, -torch.ones(len(sides), 1)], 1)])
        bounds = [*zip((-x).tolist(), (1 - x).tolist(), strict=True), (0.0, 1.0)]
        limits = torch.cat([-b, torch.zeros(len(sides))])
        return float(linprog([0.0] * len(x) + [1.0], rows.numpy(), limits.numpy(), bounds=bounds).fun or torch.inf)
    best = 0.0 if bool((b <= 0).all()) else torch.inf
    for count in range(1, len(a) + 1):
        for face in itertools.combinations(range(len(a)), count):
            delta = torch.linalg.pinv(a[[*face]]) @ b[[*face]]
            if bool((a @ delta >= b - 1e-9).all()):
                best = min(best, float(delta.norm()))
    return best


def attacked(attack: Attack, model: nn.Module, x: Tensor, y: Tensor, norm: Norm, eps: Fraction) -> Outcomes:
    """The outcomes by the core's verdict."""
    system = System(model, DataSpec((x.shape[1],), CLASSES))
    threat = Threat(norm, eps, Goal.top5, attack.supports.access)
    check_attack(attack, threat)
    ids = torch.arange(len(x))
    job = Job(attack, threat, system, system, Examples.of(ids, x, y), 0, len(x), Path("unused"))
    return attack_batch(job, x, y, ids).outcomes


def test_the_exact_distance_is_that_of_a_fine_grid() -> None:
    model, x, y = world(2)
    side = torch.linspace(-0.5, 0.5, 801)
    grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    for norm in (Norm.l2, Norm.linf):
        for point, label, far in zip(x[:4], y[:4], exact(model, x[:4], y[:4], norm), strict=True):
            scores = model(point + grid)
            lost = ((scores >= scores[:, label, None] - 1e-7).sum(1) > 5) & ((point + grid - 0.5).abs() <= 0.5).all(1)
            size = grid.norm(dim=1) if norm is Norm.l2 else grid.abs().amax(1)
            near = float(size[lost].min()) if bool(lost.any()) else float("inf")
            if far < 0.4:
                assert far - 1e-4 <= near <= far + 0.01


MINIMAL = [
    (FMN(), Norm.l2),
    (FMN(), Norm.linf),
    (DDN(), Norm.l2),
    (CarliniWagner(steps=100, searches=5), Norm.l2),
]


def named(value: object) -> str:
    return value.value if isinstance(value, Norm) else f"{value}" if isinstance(value, int) else type(value).__name__


@pytest.mark.parametrize(("attack", "norm"), MINIMAL, ids=named)
def test_smallest_perturbations_are_near_the_optimum(attack: Attack, norm: Norm) -> None:
    model, x, y = world()
    ratio = attacked(attack, model, x, y, norm, Fraction(1)).distances(norm.value) / exact(model, x, y, norm)
    assert bool((ratio > 1 - 1e-4).all())
    assert bool(ratio.isfinite().all())
    assert float(ratio.median()) < 1.1


BOUNDED = [
    (APGD(loss=APGDLoss.ce, steps=50), 0),
    (APGD(loss=APGDLoss.margin, steps=50), 0),
    (APGD(loss=APGDLoss.margin_targeted, targets=2, steps=50), 0),
    (AutoAttack(steps=30, queries=100), 0),
    (PGD(restarts=2), 2),
    (Square(queries=500), 2),
]
"""Attacks, and how many examples that lie well within the radius each may miss: five planes must be crossed at once."""


@pytest.mark.parametrize(("attack", "missed"), BOUNDED, ids=named)
def test_none_is_broken_within_the_exact_distance_and_those_well_beyond_it_are(attack: Attack, missed: int) -> None:
    model, x, y = world()
    norm, eps = Norm.linf, Fraction(1, 17)
    far = exact(model, x, y, norm)
    outcomes = attacked(attack, model, x, y, norm, eps)
    assert 3 <= int((far < float(eps)).sum()) <= COUNT - 2
    assert not bool((outcomes.broken & (far > float(eps) * (1 + 1e-5))).any())
    assert int((~outcomes.broken & (far < float(eps) / 1.1)).sum()) <= missed
    assert bool(outcomes.broken.any())


def test_the_label_may_stay_second_and_an_example_right_within_five_is_attacked() -> None:
    model, x, _ = world()
    second = model(x).topk(2, dim=1).indices[:, 1]
    outcomes = attacked(PGD(), model, x, second, Norm.linf, Fraction(1, 100))
    assert bool(outcomes.attacked.all())
    assert bool(outcomes.clean_correct.all())
    assert not bool((outcomes.clean_label == second).any())


def test_it_is_refused_where_it_means_nothing_and_where_an_attack_does_not_mean_it() -> None:
    threat = Threat(goal=Goal.top5)
    assert not threat.targeted
    with pytest.raises(Refused, match="have 5 classes, all of them among the top five; choose data of 6 classes at"):
        check_goal(threat, DataSpec((4,), 5))
    check_goal(threat, DataSpec((4,), 6))
    with pytest.raises(Refused, match=r"attack\.deepfool changes only the first label, but threat.goal is top5"):
        check_attack(DeepFool(), threat)


SLOW = {
    "fmn": {"steps": 30},
    "carlini_wagner": {"steps": 20, "searches": 2},
    "nes": {"steps": 10},
    "spsa": {"steps": 10},
}


@pytest.mark.parametrize(
    "name", [d.declared.name for d in catalogue("attack") if d.supports and d.supports.get("top5")]
)
def test_every_attack_that_means_it_does_it(name: str) -> None:
    attack = registry.load("attack", name)(**SLOW.get(name, {}))
    assert isinstance(attack, Attack)
    model, x, y = world()
    for norm in sorted(attack.supports.norms, key=lambda n: n.value):
        eps = Fraction(4) if norm is Norm.l0 else Fraction(1) if norm is Norm.l1 else Fraction(3, 10)
        outcomes = attacked(attack, model, x[:4], y[:4], norm, eps)
        assert bool(outcomes.valid.all())
        assert torch.equal(outcomes.adversarial, ~outcomes.robust_top5)
        if name not in ("none", "noise"):
            assert bool(outcomes.broken.any()), norm


def test_of_equal_scores_the_first_are_the_top_five() -> None:
    """As for argmax, so that the predicted label is always among them; ranks from a stable sort of NumPy."""
    scores = torch.randint(0, 3, (300, CLASSES), generator=torch.Generator().manual_seed(0)).float()
    scores[0] = 0.0
    system = System(nn.Identity(), DataSpec((CLASSES,), CLASSES), ())
    order = (-scores.numpy()).argsort(1, kind="stable")
    for label in range(CLASSES):
        said = answer(system, scores, torch.full((300,), label), SampleRandom(0, torch.arange(300)))
        assert said.top5.tolist() == (order[:, :5] == label).any(1).tolist()
        assert bool(said.top5[said.label == label].all())
