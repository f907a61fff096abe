"""Models without gradients: boosted trees answer as scikit-learn's, a stump has exact distances, and both transfer."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_plugins.attacks.boundary import Boundary
from benchmark_plugins.attacks.hop_skip_jump import HopSkipJump
from benchmark_plugins.attacks.pgd import PGD
from benchmark_plugins.attacks.pointwise import Pointwise
from benchmark_plugins.attacks.rays import RayS
from benchmark_plugins.attacks.sign_opt import SignOPT
from benchmark_plugins.attacks.square import Square
from benchmark_plugins.models.boosted_trees import BoostedTrees, Trees
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor

from benchmark.api import Attack
from benchmark.cli import main
from benchmark.config.schema import SystemConfig
from benchmark.data import DataSpec, Examples
from benchmark.errors import ConfigError, DataError
from benchmark.records.outcomes import OUTCOMES, Outcomes
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.threat import Access, Norm, Threat
from tests.core.cells import plugin, small_config
from tests.plugins.black_box import Result, attack

SMALL = BoostedTrees(rounds=8, leaves=12, depth=4)


def loaded(name: str) -> tuple[Examples, Examples, DataSpec]:
    splits = plugin("dataset", name).load(Path(), offline=True)
    return splits.train, splits.test, splits.spec


def fitted(model: BoostedTrees, train: Examples, spec: DataSpec, seed: int = 0) -> Trees:
    module = model.build(spec)
    model.learn(module, train, spec, seed)
    assert isinstance(module, Trees)
    return module.eval()


# --- the trees are scikit-learn's ---


@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
@pytest.mark.parametrize(
    "settings",
    [
        {"max_leaf_nodes": 12, "max_depth": 4},
        {"max_leaf_nodes": 31, "max_depth": 10, "min_samples_leaf": 5, "l2_regularization": 0.5, "learning_rate": 0.3},
    ],
    ids=["shallow", "deep"],
)
def test_scores_are_those_of_scikit_learn_to_the_bit(name: str, settings: dict[str, Any]) -> None:
    train, test, spec = loaded(name)
    model = BoostedTrees(
        rounds=6,
        leaves=settings["max_leaf_nodes"],
        depth=settings["max_depth"],
        leaf_examples=settings.get("min_samples_leaf", 20),
        learning_rate=settings.get("learning_rate", 0.1),
        l2=settings.get("l2_regularization", 0.0),
    )
    module = fitted(model, train, spec)
    peer = HistGradientBoostingClassifier(max_iter=6, early_stopping=False, **settings)
    peer.fit(train.x().flatten(1).numpy(), train.y.numpy())
    x = torch.cat([test.x(), torch.rand(200, *spec.shape, generator=torch.Generator().manual_seed(0))])
    flat = x.flatten(1).numpy()
    said = peer.decision_function(flat)
    assert np.array_equal(module.raw(x).numpy().reshape(said.shape), said)
    logits = module(x)
    assert logits.dtype == torch.float32
    np.testing.assert_allclose(logits.double().softmax(1).numpy(), peer.predict_proba(flat), atol=1e-6)
    assert np.array_equal(logits.argmax(1).numpy(), peer.predict(flat))
    assert not module(x[:3].requires_grad_()).requires_grad


def test_inputs_on_a_threshold_go_where_scikit_learn_sends_them() -> None:
    """Thresholds lie half-way between values in double precision, where single precision may round to either side."""
    generator = np.random.default_rng(0)
    x = generator.random((400, 3), dtype=np.float32)
    y = (x[:, 0] + x[:, 1] > 1).astype(np.int64)
    train = Examples.of(torch.arange(400), torch.from_numpy(x), torch.from_numpy(y))
    module = fitted(BoostedTrees(rounds=10, leaf_examples=5), train, DataSpec((3,), 2))
    peer = HistGradientBoostingClassifier(max_iter=10, max_depth=6, min_samples_leaf=5, early_stopping=False).fit(x, y)
    edges = [
        (int(node["feature_idx"]), float(node["num_threshold"]))
        for trees in peer._predictors
        for node in trees[0].nodes
        if not node["is_leaf"]
    ]
    near = np.full((3 * len(edges), 3), 0.5, dtype=np.float32)
    for row, (feature, threshold) in enumerate(edges):
        single = np.float32(threshold)
        around = (np.nextafter(single, np.float32(0)), single, np.nextafter(single, np.float32(1)))
        near[3 * row : 3 * row + 3, feature] = around
    assert np.array_equal(module.raw(torch.from_numpy(near))[:, 0].numpy(), peer.decision_function(near))


def test_trees_go_through_the_store(tmp_path: Path) -> None:
    threat = Threat(access=Access.scores, queries=20)
    cell = small_config(tmp_path, model=SMALL, examples=80, attack=Square(), threat=threat)
    first = run(cell)
    record = Store(tmp_path / "results").record(first.key)
    assert record is not None, first.error
    assert record.status == "complete"
    card = Store(tmp_path / "results").card(record.system.key)
    assert card is not None
    assert card.epochs_run == 0
    assert card.test_correct / card.test_total > 0.8
    cells = str(tmp_path / "results" / "cells")
    assert main(["verify", cells, "--store", str(tmp_path / "results"), "--data", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"rounds": 0}, r"model\.rounds is 0 and model\.leaf_examples is 20; expected at least 1"),
        ({"leaves": 1}, r"model\.leaves is 1 and model\.depth is 6; expected at least 2 leaves"),
        ({"depth": 11}, r"model\.depth is 11; .*and a depth of 1 to 10"),
        ({"learning_rate": 0.0}, r"model\.learning_rate is 0\.0"),
        ({"l2": -1.0}, r"model\.l2 is -1\.0; expected a positive rate, and a penalty of at least 0"),
    ],
)
def test_wrong_values_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        BoostedTrees(**settings)


def test_a_class_without_examples_is_named() -> None:
    train, _, spec = loaded("digits")
    few = train.take((train.y != 7).nonzero().flatten())
    with pytest.raises(DataError, match="no training example has the label 7"):
        SMALL.learn(SMALL.build(spec), few, spec, 0)


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"defenses": (plugin("defense", "adversarial_training", attack=PGD(steps=2)),)}, "refused",
         "model.boosted_trees is not trained by gradients, and defense.adversarial_training changes such training "
         "(its start, at_epoch, loss, training_threat)"),
        ({"defenses": (plugin("defense", "label_smoothing"),)}, "refused", "a defense made them soft"),
        ({"system": SystemConfig(init_from="0123")}, "refused", "so it cannot start from system.init_from"),
    ],
)  # fmt: skip
def test_what_needs_training_by_gradients_is_refused(
    tmp_path: Path, changes: dict[str, Any], status: str, text: str
) -> None:
    result = run(small_config(tmp_path, model=SMALL, attack=plugin("attack", "noise"), examples=10, **changes))
    assert result.status == status
    assert result.error is not None
    assert text in result.error


# --- a stump: the exact distance is that of one feature to its threshold ---


FEATURE, THRESHOLD = 5, 0.40625


def stump() -> Trees:
    module = Trees(rounds=1, classes=2, depth=1)
    module.feature.fill_(FEATURE)
    module.threshold.fill_(THRESHOLD)
    module.value.copy_(torch.tensor([[-1.0, 1.0]]))
    return module


POINTS = torch.rand(24, 8, generator=torch.Generator().manual_seed(1))
EXACT = (POINTS[:, FEATURE] - THRESHOLD).abs().double()


def at_the_stump(method: Attack, norm: Norm, eps: float | str = 1, **threat: Any) -> Result:
    y = (POINTS[:, FEATURE] > THRESHOLD).long()
    return attack(method, norm, eps, rows=torch.arange(24), model=stump(), x=POINTS, y=y, classes=2, **threat)


def test_a_stump_answers_by_its_threshold() -> None:
    above = torch.nextafter(torch.tensor(THRESHOLD), torch.tensor(1.0))
    x = torch.full((2, 8), 0.5)
    x[:, FEATURE] = torch.stack([torch.tensor(THRESHOLD), above])
    assert stump()(x).tolist() == [[0.0, -1.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("method", "norm"),
    [
        (HopSkipJump(), Norm.linf),
        (HopSkipJump(), Norm.l2),
        (Boundary(), Norm.l2),
        (RayS(), Norm.linf),
        (SignOPT(), Norm.l2),
    ],
    ids=str,
)
def test_no_attack_on_labels_reports_less_than_the_distance_to_the_threshold(method: Attack, norm: Norm) -> None:
    result = at_the_stump(method, norm, queries=1000)
    ratio = result.far / EXACT
    assert bool(result.broken.all())
    assert float(ratio.min()) >= 1 - 1e-6
    assert float(ratio.median()) <= 1.05


def test_one_feature_is_enough_and_pointwise_finds_it() -> None:
    result = at_the_stump(Pointwise(), Norm.l0, queries=1000)
    assert bool(result.broken.all())
    assert result.far.tolist() == [1.0] * 24
    assert (result.x_adv != result.x).nonzero()[:, 1].unique().tolist() == [FEATURE]


def test_square_breaks_what_the_ball_reaches_and_nothing_else() -> None:
    result = at_the_stump(Square(queries=200), Norm.linf, "1/4")
    below = POINTS[:, FEATURE] <= THRESHOLD
    reachable = torch.where(below, EXACT.lt(0.25), EXACT.le(0.25))  # to reach the threshold is not to pass it
    assert 0 < int(reachable.sum()) < 24
    assert torch.equal(result.broken, reachable)


# --- transfer ---


def test_trees_transfer_through_attacks_on_scores_and_labels(tmp_path: Path) -> None:
    """A tree gives no gradient: PGD on it goes nowhere, Square on it breaks the trees and some of the network."""
    root = tmp_path / "results"
    eps = Fraction(3, 20)

    def broken(method: Attack, surrogate: str, **changes: Any) -> Tensor:
        access = Access.transfer if surrogate else Access.scores
        threat = Threat(eps=eps, access=access, surrogate=surrogate, queries=200)
        config = small_config(tmp_path, attack=method, examples=60, threat=threat, **changes)
        result = run(config)
        assert result.status == "complete", result.error
        return Outcomes.load(Store(root).cell(result.key) / OUTCOMES).broken

    assert float(broken(Square(), "", model=SMALL).double().mean()) > 0.4
    blind = Threat(access=Access.transfer, surrogate="digits/boosted_trees")
    refused = run(small_config(tmp_path, attack=PGD(steps=5), examples=60, threat=blind))
    assert refused.status == "refused"
    assert "the attack needs gradients, but threat.surrogate digits/boosted_trees with" in str(refused.error)
    through_scores = broken(Square(), "digits/boosted_trees")
    assert float(through_scores.double().mean()) > 0.05
    for method in (plugin("attack", "surrogate_gradient", pairs=10), RayS()):  # near the trees' boundary, or nowhere
        assert int(broken(method, "digits/boosted_trees").sum()) < int(through_scores.sum())
