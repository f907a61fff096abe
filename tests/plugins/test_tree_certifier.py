"""Leaf boxes: the distances of exhaustive search, in every norm, and below them where the search ends early."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_plugins.certifiers._trees.leaves import Leaves, Node
from benchmark_plugins.certifiers._trees.reading import read
from benchmark_plugins.certifiers.tree import TreeBoxes
from benchmark_plugins.models.boosted_trees import BoostedTrees, Trees
from torch import Tensor, nn

from benchmark import registry
from benchmark.api import DataSpec, Examples, Model
from benchmark.errors import Refused
from benchmark.sampling import SampleRandom
from benchmark.system import System
from benchmark.threat import Norm, Threat
from benchmark.threat.ball import distance

EPS = {Norm.linf: Fraction(1, 10), Norm.l2: Fraction(1), Norm.l1: Fraction(1), Norm.l0: Fraction(1)}


def radii(system: System, x: Tensor, y: Tensor, norm: Norm, boxes: int = 500) -> Tensor:
    rng = SampleRandom(0, torch.arange(len(x)))
    radius: Tensor = TreeBoxes(boxes).certify(system, x, y, threat=Threat(norm, EPS[norm]), rng=rng)
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


def grown(classes: int, rounds: int, depth: int, model: Model | None = None) -> tuple[System, Tensor, Tensor]:
    """Trees of three features on values k / 8, and 20 inputs with the labels that they are given."""
    draw = torch.Generator().manual_seed(classes)
    x = torch.randint(0, 9, (400, 3), generator=draw) / 8.0
    y = ((x @ torch.tensor([1.0, 1.5, -1.0]) * classes).long() % classes).clamp(0, classes - 1)
    model = model or BoostedTrees(rounds=rounds, depth=depth, leaf_examples=5, learning_rate=0.5)
    spec = DataSpec((3,), classes)
    module = model.build(spec)
    model.learn(module, Examples.of(torch.arange(400), x, y), spec, 0)
    system, some = System(module, spec), x[:20] + 1 / 64
    return system, some.clamp(0, 1), system.logits(some.clamp(0, 1), SampleRandom(0, torch.arange(20))).argmax(1)


def nearest(system: System, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """The exact distances: the nearest point of every cell that the sides of leaves cut the box into."""
    leaves = read(system, x)[0]
    axes = []
    for feature in range(3):
        last = np.unique(leaves.high[:, feature])
        first = np.concatenate([[np.float32(0.0)], np.nextafter(last[:-1], np.float32(np.inf))])
        axes.append(list(zip(first.tolist(), last.tolist(), strict=True)))
    ends = torch.tensor(list(itertools.product(*axes)))
    low, high = ends[..., 0], ends[..., 1]
    said = system.logits(((low + high) / 2), SampleRandom(0, torch.arange(len(low)))).argmax(1)
    far = torch.stack([distance(row.maximum(low).minimum(high), row.expand_as(low), norm) for row in x]).double()
    return torch.where(said != y[:, None], far, torch.inf).amin(1)


def agree(found: Tensor, exact: Tensor, norm: Norm) -> None:
    if norm is Norm.l0:
        assert torch.equal(found, (exact - 1).clamp(0, 3))
    else:
        largest = 1.0 if norm is Norm.linf else 3.0
        np.testing.assert_allclose(found, exact.clamp_max(largest), rtol=1e-5, atol=1e-7)
    assert bool((found <= exact).all())


@pytest.mark.parametrize("norm", list(Norm))
def test_boosted_trees_have_the_distances_of_exhaustive_search(norm: Norm) -> None:
    for classes in (2, 3):
        several, x, y = grown(classes, 3, 3)
        exact = nearest(several, x, y, norm)
        agree(radii(several, x, y, norm).double(), exact, norm)
        early = radii(several, x, y, norm, boxes=0).double()
        assert bool((early <= exact).all())
        assert norm not in (Norm.l2, Norm.l1) or bool((early < 0.99 * exact).any())


OTHERS: dict[str, tuple[str, dict[str, object]]] = {
    "forest": ("sklearn", {"estimator": "RandomForestClassifier", "args": {"n_estimators": 8, "max_depth": 3}}),
    "tree": ("sklearn", {"estimator": "DecisionTreeClassifier", "args": {"max_depth": 4}}),
    "gradient boosting": (
        "sklearn",
        {"estimator": "GradientBoostingClassifier", "args": {"n_estimators": 4, "learning_rate": 1.0}},
    ),
    "xgboost": ("xgboost", {"args": {"n_estimators": 4, "max_depth": 3, "learning_rate": 1.0}}),
    "lightgbm": ("lightgbm", {"args": {"n_estimators": 4, "num_leaves": 6, "learning_rate": 1.0}}),
}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", OTHERS)
def test_ensembles_of_other_libraries_have_the_distances_of_exhaustive_search(kind: str, classes: int) -> None:
    name, settings = OTHERS[kind]
    for package in ("onnx", "onnxruntime", "skl2onnx") if name == "sklearn" else (name,):
        pytest.importorskip(package)
    model: Any = registry.load("model", name)
    system, x, y = grown(classes, 0, 0, model(**settings, mebibytes=1))
    exact = nearest(system, x, y, Norm.linf)
    agree(radii(system, x, y, Norm.linf).double(), exact, Norm.linf)
    assert 0 < float(exact.min()) < 0.5


def test_an_ensemble_too_large_for_its_boxes_is_refused_with_its_size() -> None:
    leaf, feature = Node(np.zeros(2)), 2**20
    tree = [Node(None, 0, 0.5, 1, 2), *[leaf] * 17]
    with pytest.raises(Refused, match=rf"the ensemble has 17 leaves over {feature} features, and .* at most {2**24};"):
        Leaves.of([tree], feature, np.zeros(2))


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
    with pytest.raises(Refused, match=r"reads the leaves of model\.boosted_trees, .*but the deployed module is Behind"):
        radii(System(Behind(stump(1, 0.4)), DataSpec((3,), 2)), x, y, Norm.linf)
