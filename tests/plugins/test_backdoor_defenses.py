"""Defenses against poisons: published rules on the digits' pixels as features, and small nets made by hand."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from pathlib import Path

import pytest
import torch
from benchmark_plugins.defenses._backdoors.partitions import Partitions, certified_rows, parted, vote
from benchmark_plugins.defenses.activation_clustering import ActivationClustering, split
from benchmark_plugins.defenses.anti_backdoor_learning import AntiBackdoorLearning, row_losses, soonest
from benchmark_plugins.defenses.deep_knn import DeepKNN, outvoted
from benchmark_plugins.defenses.fine_pruning import FinePruning, accuracy, mean_activation, prune, pruned_layer
from benchmark_plugins.defenses.neural_cleanse import NeuralCleanse, anomaly_index
from benchmark_plugins.defenses.partition_aggregation import PartitionAggregation
from benchmark_plugins.defenses.spectral_signatures import SpectralSignatures, outlying, spectral_scores
from benchmark_plugins.defenses.strip import Strip, mean_entropy, overlaid
from benchmark_plugins.poisons._triggers.rows import stamped
from benchmark_plugins.poisons.patch_trigger import PatchTrigger
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from benchmark.api import Batch, DataSpec, Defense, Examples, Loss
from benchmark.config.cell import RunConfig
from benchmark.errors import ConfigError, DataError, Refused
from benchmark.oracles.linear import LinearClassifier
from benchmark.records.outcomes import OUTCOMES, Outcomes
from benchmark.records.record import read_record
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.sampling import SampleRandom
from benchmark.testing.contract import build
from tests.core.cells import fitted_of, loaded_of, small_config
from tests.plugins.poisoned_digits import SPEC, NearestMean, first_not, training

PIXELS = {"model": build("model", "nearest_class_mean")}
"""A network whose features are the pixels."""


@functools.cache
def poisoned(rate: float) -> tuple[Examples, Tensor]:
    """Digits of which a share has a 2x2 patch and the label 0; and the positions of these."""
    positions = first_not(0, int(rate * 1297))
    return stamped(training(), positions, 0, PatchTrigger(size=2).trigger), positions


def zeros(rate: float) -> tuple[Tensor, Tensor]:
    """Pixels of the rows labelled 0, and which of them are poison."""
    train, positions = poisoned(rate)
    rows = (train.y == 0).nonzero().flatten()
    return train.x(rows).double().flatten(1), torch.isin(rows, positions)


def rng(train: Examples) -> SampleRandom:
    return SampleRandom(0, train.ids.clone())


# --- spectral signatures ---


@pytest.mark.parametrize(
    ("rate", "centred", "found", "auroc"),
    [
        (0.02, True, 25, 1.000),
        (0.02, False, 18, 0.934),
        (0.05, True, 62, 0.990),
        (0.05, False, 53, 0.915),
        (0.10, True, 58, 0.456),
        (0.10, False, 113, 0.925),
    ],
)
def test_spectral_scores_of_a_poisoned_class(rate: float, centred: bool, found: int, auroc: float) -> None:
    features, bad = zeros(rate)
    scores = spectral_scores(features, centred=centred)
    top = scores.argsort(descending=True)[: int(bad.sum())]
    assert int(bad[top].sum()) == found
    assert roc_auc_score(bad.numpy(), scores.numpy()) == pytest.approx(auroc, abs=5e-4)


def test_spectral_scores_find_every_row_of_a_shifted_gaussian() -> None:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(400, 20, generator=draw, dtype=torch.float64)
    features[:20, 3] += 12.0
    scores = spectral_scores(features + 100.0)
    assert set(scores.argsort(descending=True)[:20].tolist()) == set(range(20))
    mirrored = spectral_scores(-features)
    torch.testing.assert_close(mirrored, scores, rtol=1e-6, atol=1e-6)


def test_every_class_loses_its_share_of_rows() -> None:
    train, positions = poisoned(0.02)
    defense = SpectralSignatures(poisoned=0.3, **PIXELS)
    after = defense.prepare(train, SPEC, rng(train))
    lost = torch.bincount(train.y, minlength=10) - torch.bincount(after.y, minlength=10)
    assert lost.tolist() == [int(0.45 * n) for n in torch.bincount(train.y, minlength=10).tolist()]
    assert not torch.isin(train.ids[positions], after.ids).any()
    assert not outlying(train.x().double().flatten(1), train.y, 0.0).any()
    with pytest.raises(ConfigError, match=r"spectral_signatures\.poisoned is 0\.7; expected a share"):
        SpectralSignatures(poisoned=0.7, **PIXELS)


# --- activation clustering ---


@pytest.mark.parametrize(("rate", "size", "bad_removed"), [(0.02, 25, 25), (0.05, 64, 64), (0.10, 128, 0)])
def test_the_smaller_cluster_is_poison_until_poison_is_half(rate: float, size: int, bad_removed: int) -> None:
    features, bad = zeros(rate)
    smaller, _ = split(features, 10, 0)
    assert int(smaller.sum()) == size
    assert int(bad[smaller].sum()) == bad_removed


def test_only_the_class_that_falls_into_two_is_filtered() -> None:
    train, positions = poisoned(0.05)
    after = ActivationClustering(**PIXELS).prepare(train, SPEC, rng(train))
    removed = train.ids[~torch.isin(train.ids, after.ids)]
    assert torch.equal(removed, train.ids[positions])
    every = ActivationClustering(silhouette=-1.0, **PIXELS).prepare(train, SPEC, rng(train))
    lost = torch.bincount(train.y, minlength=10) - torch.bincount(every.y, minlength=10)
    assert bool((lost > 0).all())
    assert int(lost[0]) == 64


def test_clusters_far_apart_have_a_silhouette_of_one_and_equal_rows_none() -> None:
    features = torch.zeros(12, 3, dtype=torch.float64)
    assert split(features, 2, 0)[1] == -1.0
    features[:4, 1] = 5.0
    smaller, silhouette = split(features, 2, 0)
    assert smaller.tolist() == [True] * 4 + [False] * 8
    assert silhouette == pytest.approx(1.0)


# --- deep k-NN ---


def test_a_row_is_removed_where_its_neighbours_outvote_it() -> None:
    features = torch.tensor([0.0, 1.0, 2.0, 3.0, 90.0, 91.0, 92.0])[:, None].double()
    y = torch.tensor([0, 0, 1, 0, 1, 1, 0])
    assert outvoted(features, y, 2).tolist() == [False, False, True, False, False, False, True]
    assert outvoted(features, y, 1).tolist() == [False, False, True, True, False, False, True]
    twins = torch.zeros(4, 1).double()
    assert outvoted(twins, torch.tensor([0, 1, 2, 2]), 1).tolist() == [True, True, True, True]
    assert outvoted(twins, torch.tensor([0, 0, 1, 1]), 3).tolist() == [True, True, True, True]
    assert outvoted(twins[:1], torch.tensor([2]), 5).tolist() == [False]
    assert outvoted(features, torch.zeros(7, dtype=torch.int64), 50).tolist() == [False] * 7


def test_deep_knn_removes_flipped_rows_and_few_others() -> None:
    train, positions = poisoned(0.02)
    after = DeepKNN(neighbours=50, **PIXELS).prepare(train, SPEC, rng(train))
    removed = ~torch.isin(train.ids, after.ids)
    assert bool(removed[positions].all())
    assert int(removed.sum()) - len(positions) < 0.06 * len(train)


# --- STRIP ---


class Watcher(nn.Module):
    """Two classes, undecided up to a value of 0.9 in the first feature, and certain of the second one above it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1000.0))

    def forward(self, x: Tensor) -> Tensor:
        over = (x[:, 0] - 0.9).clamp_min(0.0) * self.scale
        return torch.stack([torch.zeros_like(over), over], 1)


def test_strip_scores_are_minus_the_mean_entropy_in_bits() -> None:
    x = torch.tensor([[0.0, 0.3], [0.5, 0.3], [1.0, 0.3]])
    overlays = torch.tensor([[0.1, 0.0], [0.2, 0.9], [0.85, 0.0], [0.85, 1.0]])
    torch.testing.assert_close(mean_entropy(Watcher(), x, overlays), torch.tensor([1.0, 0.5, 0.0]), rtol=0, atol=1e-6)


def test_strip_keeps_its_overlays_with_the_weights() -> None:
    defense, clean = Strip(overlays=3), Examples.of(torch.arange(5), torch.rand(5, 2), torch.zeros(5).long())
    model = defense.build(Watcher(), DataSpec((2,), 2))
    defense.repair(model, clean, never)
    again = defense.build(Watcher(), DataSpec((2,), 2))
    again.load_state_dict(model.state_dict())
    x = torch.tensor([[0.2, 0.0], [1.0, 0.0]])
    assert len(overlaid(again).overlays) == 3
    assert torch.equal(overlaid(again).overlays, clean.x()[:3])
    assert torch.equal(defense.suspicion(again, x), defense.suspicion(model, x))
    with pytest.raises(DataError, match=r"defense\.strip found no overlays in this model"):
        defense.suspicion(Watcher(), x)


def never(network: nn.Module, examples: Examples, loss: Loss) -> None:
    raise AssertionError("nothing is to be trained")


# --- fine-pruning ---


def sleeper() -> tuple[nn.Sequential, Examples, Tensor]:
    """A net that tells bright images from dark ones, with a channel that only white pixels wake; and marked images."""
    convolution, head = nn.Conv2d(1, 3, 1), nn.Linear(12, 2)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([1.0, -1.0, 1.0]).reshape(3, 1, 1, 1))
        convolution.bias.copy_(torch.tensor([0.0, 1.0, -0.95]))  # type: ignore[union-attr]
        head.weight.zero_()
        head.weight[1, :4], head.weight[0, 4:8], head.weight[0, 8:] = 1.0, 1.0, 1000.0
        head.bias.zero_()
    y = torch.arange(20) % 2
    x = (0.2 + 0.6 * y.float())[:, None, None, None].expand(20, 1, 2, 2).clone()
    marked = x[y == 1].clone()
    marked[..., -1, -1] = 1.0
    return nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), head), Examples.of(torch.arange(20), x, y), marked


def test_the_channel_that_only_the_trigger_feeds_goes_first_and_takes_the_backdoor_with_it() -> None:
    model, clean, marked = sleeper()
    assert accuracy(model, clean) == 1.0
    assert model(marked).argmax(1).tolist() == [0] * 10
    layer = pruned_layer(model)
    assert mean_activation(model, layer, clean).tolist() == pytest.approx([0.5, 0.5, 0.0])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    FinePruning(tune=False).repair(model, clean, never)
    assert accuracy(model, clean) == 1.0
    assert model(marked).argmax(1).tolist() == [1] * 10
    weight, bias = model.state_dict()["0.weight"], model.state_dict()["0.bias"]
    assert float(weight[2].abs().sum() + bias[2].abs()) == 0
    assert torch.equal(weight[:2], before["0.weight"][:2])
    assert torch.equal(bias[:2], before["0.bias"][:2])


def test_pruned_channels_stay_at_zero_while_the_rest_is_tuned() -> None:
    model, clean, _ = sleeper()
    seen = []

    def fit(network: nn.Module, examples: Examples, loss: Loss) -> None:
        with torch.no_grad():
            network[0].weight += 0.5  # type: ignore[index]
        batch = Batch(examples.ids, examples.x(), examples.y)
        seen.append(float(loss(network, batch).detach()))
        assert float(network[0].weight[2].detach()) == 0  # type: ignore[index]
        with torch.no_grad():
            network[0].weight += 0.5  # type: ignore[index]

    FinePruning().repair(model, clean, fit)
    assert len(seen) == 1
    assert float(model.state_dict()["0.weight"][2]) == 0
    assert model.state_dict()["0.weight"][0].item() == 2.0


def test_pruning_stops_before_more_accuracy_is_lost_than_allowed() -> None:
    model, clean, _ = sleeper()
    assert prune(model, pruned_layer(model), clean, 0.1).tolist() == [2]
    model, clean, _ = sleeper()
    assert len(prune(model, pruned_layer(model), clean, 0.5)) == 2
    with pytest.raises(Refused, match="prunes channels of a convolution or a hidden layer, but the model has none"):
        pruned_layer(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))


# --- Neural Cleanse ---


def test_the_anomaly_index_of_ten_norms() -> None:
    norms = torch.tensor([10, 40, 42, 45, 41, 39, 44, 43, 40, 42]).double()
    index = anomaly_index(norms)
    assert float(index[0]) == pytest.approx(14.1643, abs=5e-5)
    assert (index > 2).tolist() == [True] + [False] * 9
    assert float(anomaly_index(-norms)[0]) == pytest.approx(-14.1643, abs=5e-5)
    assert anomaly_index(torch.full((5,), 7.0).double()).tolist() == [0.0] * 5
    assert anomaly_index(torch.tensor([1.0, 7.0, 7.0, 7.0, 7.0]).double()).tolist() == [0.0] * 5


def test_a_planted_pixel_is_found_and_unlearned_under_true_labels() -> None:
    train = training()
    means = NearestMean(train).means
    network = LinearClassifier(2 * means, -means.square().sum(1))
    with torch.no_grad():
        network.weight[3, 0] += 40.0
    clean, told = train.take(torch.arange(200)), []
    defense = NeuralCleanse(steps=150)
    masks = [defense.trigger_of(network, clean.x(), label)[0] for label in range(10)]
    norms = torch.stack([mask.sum() for mask in masks]).double()
    assert int(norms.argmin()) == 3
    assert (anomaly_index(norms) > 2).nonzero().flatten().tolist() == [3]
    assert float(masks[3].flatten()[0]) > 0.5 * float(masks[3].sum())
    defense.repair(network, clean, lambda _network, examples, _loss: told.append(examples))
    (shown,) = told
    assert torch.equal(shown.y, clean.y)
    differ = (shown.x() != clean.x()).flatten(1).any(1).nonzero().flatten()
    assert differ.tolist() == list(range(0, 200, 5))
    assert network(shown.x(differ)).argmax(1).tolist() == [3] * 40


def test_a_network_without_a_backdoor_is_left_alone() -> None:
    means = NearestMean(training()).means
    network = LinearClassifier(2 * means, -means.square().sum(1))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    NeuralCleanse(steps=60, threshold=5.0).repair(network, training().take(torch.arange(100)), never)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


# --- anti-backdoor learning ---


def test_losses_below_gamma_are_ascended() -> None:
    defense, model = AntiBackdoorLearning(gamma=0.5), nn.Linear(1, 1, bias=False)
    batch = Batch(torch.arange(1), torch.ones(1, 1), torch.zeros(1).long())
    for weight, expected in ((0.3, -0.3), (0.8, 0.8), (0.5, 0.0)):
        with torch.no_grad():
            model.weight.fill_(weight)
        value = defense.loss(model, batch, lambda m, b: m(b.x).sum(), SampleRandom(0, batch.ids))
        assert float(value.detach()) == pytest.approx(expected)
        (gradient,) = torch.autograd.grad(value, model.weight)
        assert float(gradient) == (weight > 0.5) - (weight < 0.5)


def test_the_rows_that_are_learned_soonest_are_isolated_and_unlearned() -> None:
    assert soonest(torch.tensor([0.5, 0.1, 0.3, 0.1]), 2).tolist() == [False, True, False, True]
    train = training()
    means = NearestMean(train).means
    network = LinearClassifier(2 * means, -means.square().sum(1))
    losses = row_losses(network, train)
    isolated = train.take(soonest(losses, 12).nonzero().flatten())
    assert len(isolated) == 12
    assert float(losses[isolated.ids].max()) <= float(losses.sort().values[11])
    rest = []
    AntiBackdoorLearning(isolated=0.01, unlearning_rate=0.05).finish(
        network, train, lambda _network, examples, _loss: rest.append(examples)
    )
    assert len(rest[0]) == 1297 - 12
    assert not torch.isin(isolated.ids, rest[0].ids).any()
    assert float(row_losses(network, isolated).mean()) > 2 * float(losses[isolated.ids].mean())


# --- deep partition aggregation ---


def test_the_certificate_of_sixty_votes_to_thirty_eight() -> None:
    votes = torch.tensor([[60, 38, 2], [38, 60, 2], [50, 50, 0], [50, 50, 0], [10, 40, 50]])
    y = torch.tensor([0, 1, 0, 1, 1])
    assert certified_rows(votes, y).tolist() == [11, 10, 0, -1, -1]


def test_the_certificate_is_exact_against_every_move_of_votes() -> None:
    for votes in itertools.product(range(8), repeat=3):
        first = max(range(3), key=lambda k: (votes[k], -k))
        count = int(certified_rows(torch.tensor([votes]), torch.tensor([first])))
        for other in {0, 1, 2} - {first}:
            for moved in range(min(count + 1, votes[first]) + 1):
                after = list(votes)
                after[first] -= moved
                after[other] += moved
                now = max(range(3), key=lambda k: (after[k], -k))
                assert now == first or moved > count
        beaten = []
        for other in {0, 1, 2} - {first}:
            after = list(votes)
            after[first] -= count + 1
            after[other] += count + 1
            beaten.append(max(range(3), key=lambda k: (after[k], -k)) != first)
        assert any(beaten), votes


def test_a_row_lies_in_one_part_whatever_the_others_are() -> None:
    train = training()
    parts = parted(train, 10)
    assert sorted(torch.cat(parts).tolist()) == list(range(1297))
    assert all(90 < len(part) < 170 for part in parts)
    fewer = train.take(torch.cat([torch.arange(700), torch.arange(701, 1297)]))
    after = [fewer.ids[part].tolist() for part in parted(fewer, 10)]
    changed_parts = [i for i, part in enumerate(parts) if train.ids[part].tolist() != after[i]]
    (one,) = changed_parts
    assert [i for i in train.ids[parts[one]].tolist() if i != 700] == after[one]
    shuffled = train.take(torch.randperm(1297, generator=torch.Generator().manual_seed(0)))
    assert [shuffled.ids[part].tolist() for part in parted(shuffled, 10)] == [
        train.ids[part].tolist() for part in parts
    ]


def test_votes_are_the_logits_and_the_first_of_equal_classes_wins() -> None:
    logits = torch.tensor([[[0.0, 1.0, 1.0], [2.0, 0.0, 0.0], [0.0, 0.0, 3.0]]])
    assert vote(logits).tolist() == [[1, 1, 1]]
    voters = Partitions(nn.Linear(2, 3), 4)
    x = torch.rand(5, 2)
    assert torch.equal(voters(x).argmax(1), voters.members[0](x).argmax(1))
    assert torch.equal(voters(x).round().long(), vote(voters.answers(x)))


def test_taking_a_row_away_changes_one_network_bit_for_bit(tmp_path: Path) -> None:
    weights = []
    for name, rows in (("all", torch.arange(300)), ("fewer", torch.cat([torch.arange(123), torch.arange(124, 300)]))):
        config = small_config(tmp_path / name, defenses=(PartitionAggregation(partitions=4),))
        loaded = loaded_of(config)
        fewer = dataclasses.replace(loaded.splits, train=loaded.splits.train.take(rows))
        system, _ = fitted_of(config, dataclasses.replace(loaded, splits=fewer))
        weights.append(system.model.state_dict())
    same = [all(torch.equal(v, weights[1][n]) for n, v in weights[0].items() if f"members.{i}." in n) for i in range(4)]
    assert sorted(same) == [False, True, True, True]
    different = [not torch.equal(weights[0][f"members.{i}.2.weight"], weights[0]["members.0.2.weight"]) for i in (1, 2)]
    assert all(different)


def config_root(config: RunConfig) -> Path:
    return Path(config.store.root)


def test_the_certificate_of_a_cell_counts_the_votes_of_its_networks(tmp_path: Path) -> None:
    config = small_config(
        tmp_path,
        defenses=(PartitionAggregation(partitions=7),),
        certifiers=(build("certifier", "partition_aggregation"),),
        metrics=(build("metric", "poisoning_certificate", rows=(0, 1, 3)),),
        examples=60,
    )
    result = run(config)
    assert result.status == "complete", result.error
    store = Store(config_root(config))
    outcomes = Outcomes.load(store.cell(result.key) / OUTCOMES)
    loaded = loaded_of(config)
    system, _ = fitted_of(config, loaded)
    expected = certified_rows(vote(system.model.answers(loaded.attacked.x())), loaded.attacked.y)  # type: ignore[operator]
    assert outcomes.certified_rows is not None
    assert torch.equal(outcomes.certified_rows, torch.where(outcomes.clean_correct, expected, 0))
    assert int(outcomes.certified_rows.max()) <= 3
    assert not outcomes.certified.any()
    shares = [m.value for m in read_record(store.cell(result.key)).metrics]
    right = outcomes.clean_correct
    assert shares == [float((right & (outcomes.certified_rows >= n)).double().mean()) for n in (0, 1, 3)]


@pytest.mark.parametrize(
    ("defenses", "sentence"),
    [
        ((), "the system is not such a vote or is defended at inference"),
        (
            (PartitionAggregation(partitions=2), FinePruning()),
            r"FinePruning sees all rows \(its repair\); leave it out",
        ),
    ],
)
def test_a_certificate_that_would_not_hold_is_refused(
    tmp_path: Path, defenses: tuple[Defense, ...], sentence: str
) -> None:
    model = build("model", "mlp_16_16")
    certifiers = (build("certifier", "partition_aggregation"),)
    result = run(small_config(tmp_path, model=model, defenses=defenses, certifiers=certifiers, examples=5))
    assert result.status == "refused", result.error
    assert re.search(sentence, result.error or "")
