"""Leaf boxes: exact for one tree, below exhaustive search for many, in every norm."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from benchmark_plugins.certifiers.tree import TreeBoxes
from benchmark_plugins.models.boosted_trees import BoostedTrees, Trees
from torch import Tensor, nn

from benchmark.api import DataSpec, Examples
from benchmark.errors import Refused
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.threat import Norm, Threat
from benchmark.threat.ball import distance

EPS = {Norm.linf: Fraction(1, 10), Norm.l2: Fraction(1), Norm.l1: Fraction(1), Norm.l0: Fraction(1)}


def radii(system: System, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    rng = SampleRandom(0, torch.arange(len(x)))
    radius: Tensor = TreeBoxes().certify(system, x, y, threat=Threat(norm, EPS[norm]), rng=rng)
    return radius


def stump(feature: int, threshold: float) -> Trees:
    """The second class where a feature of three is above a threshold."""
    trees = Trees(1, 2, 1)
    trees.feature.fill_(feature)
    trees.threshold.fill_(threshold)
    trees.value.copy_(torch.tensor([[-1.0, 1.0]]))
    return trees


@pytest.mark.parametrize("norm", [Norm.linf, Norm.l2, Norm.l1])
def test_the_distance_of_a_stump_is_that_to_its_threshold(norm: Norm) -> None:
    system = System(stump(1, 0.4), DataSpec((3,), 2))
    x = torch.rand(30, 3, generator=torch.Generator().manual_seed(0))
    y = (x[:, 1] > 0.4).long()
    torch.testing.assert_close(radii(system, x, y, norm), (x[:, 1] - 0.4).abs(), rtol=1e-4, atol=1e-5)
    assert bool((radii(system, x, 1 - y, norm) == 0).all())


def test_a_stump_that_the_box_never_passes_is_certified_up_to_the_box() -> None:
    system = System(stump(2, 1.0), DataSpec((3,), 2))
    assert radii(system, torch.rand(2, 3), torch.zeros(2).long(), Norm.linf).tolist() == [1.0, 1.0]


def grown(classes: int, rounds: int, depth: int) -> tuple[System, Tensor, Tensor]:
    """Trees of three features on values k / 8, and 20 inputs with their labels."""
    draw = torch.Generator().manual_seed(classes)
    x = torch.randint(0, 9, (400, 3), generator=draw) / 8.0
    y = ((x @ torch.tensor([1.0, 1.5, -1.0]) * classes).long() % classes).clamp(0, classes - 1)
    model, spec = BoostedTrees(rounds=rounds, depth=depth, leaf_examples=5, learning_rate=0.5), DataSpec((3,), classes)
    module = model.build(spec)
    model.learn(module, Examples.of(torch.arange(400), x, y), spec, 0)
    system, some = System(module, spec), x[:20] + 1 / 64
    return system, some.clamp(0, 1), system.logits(some.clamp(0, 1), SampleRandom(0, torch.arange(20))).argmax(1)


def nearest(system: System, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """The exact distances: the nearest point of every cell that thresholds cut the box into."""
    module = system.protected
    assert isinstance(module, Trees)
    axes = []
    for feature in range(3):
        cuts = module.threshold[module.feature == feature].unique().double()
        axes.append(
            torch.cat([torch.tensor([0.0]).double(), cuts[(cuts >= 0) & (cuts < 1)], torch.tensor([1.0]).double()])
        )
    least = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for ends in itertools.product(*(itertools.pairwise(a.tolist()) for a in axes)):
        low, high = torch.tensor(ends).T.double()
        inside = ((low + high) / 2).float()[None]
        said = int(system.logits(inside, SampleRandom(0, torch.arange(1))).argmax())
        closest = x.double().maximum(low).minimum(high)
        far = distance(closest, x.double(), norm)
        least = torch.where(y != said, least.minimum(far), least)
    return least


@pytest.mark.parametrize("norm", list(Norm))
def test_one_tree_is_exact_and_more_are_below_exhaustive_search(norm: Norm) -> None:
    single, x, y = grown(2, 1, 3)
    exact = nearest(single, x, y, norm)
    found = radii(single, x, y, norm).double()
    if norm is Norm.l0:
        assert torch.equal(found, (exact - 1).clamp(0, 3).nan_to_num(posinf=3.0))
    else:
        np.testing.assert_allclose(found.clamp_max(1), exact.clamp_max(1), rtol=1e-4, atol=1e-5)
    for classes in (2, 3):
        several, x, y = grown(classes, 3, 3)
        exact, found = nearest(several, x, y, norm), radii(several, x, y, norm).double()
        assert bool((found <= exact + 1e-6).all())
        assert norm is Norm.l0 or float((found > 0).double().mean()) > 0.5


class Behind(nn.Module):
    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inside(1 - x)
        return logits


def test_what_does_not_answer_as_its_leaves_is_refused() -> None:
    hooked = stump(1, 0.4)
    hooked.register_forward_pre_hook(lambda _, given: (1 - given[0],))
    x, y = torch.rand(2, 3), torch.zeros(2).long()
    with pytest.raises(Refused, match=r"the system's scores are not the sums of its leaves"):
        radii(System(hooked, DataSpec((3,), 2)), x, y, Norm.linf)
    with pytest.raises(Refused, match=r"reads the leaves of model\.boosted_trees, but the deployed module is Behind"):
        radii(System(Behind(stump(1, 0.4)), DataSpec((3,), 2)), x, y, Norm.linf)
