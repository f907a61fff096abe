"""Poison in the pipeline: what is stored counts, what is not named is refused, a trigger is judged by its label."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_plugins.attacks.trigger import Trigger
from benchmark_plugins.defenses.spectral_signatures import SpectralSignatures
from benchmark_plugins.defenses.strip import Strip
from benchmark_plugins.metrics.attack_success import AttackSuccess
from benchmark_plugins.metrics.backdoor import Backdoor as BackdoorMetric
from benchmark_plugins.metrics.clean_accuracy import CleanAccuracy
from benchmark_plugins.poisons.feature_collision import FeatureCollision
from benchmark_plugins.poisons.label_flip import Flip, LabelFlip
from benchmark_plugins.poisons.patch_trigger import PatchTrigger
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmark.api import DataSpec, Examples, Poison
from benchmark.config.cell import RunConfig
from benchmark.config.schema import Training
from benchmark.errors import DataError, StoreError
from benchmark.records.outcomes import OUTCOMES, Outcomes
from benchmark.records.poison import POISON, PoisonedRows
from benchmark.records.record import Record, read_record
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.sampling import SampleRandom
from benchmark.stages.backdoor import Backdoor
from benchmark.stages.poison import poison
from benchmark.testing.contract import build
from tests.core.cells import declared, fitted_of, loaded_of, plugin, small_config

METRICS = (BackdoorMetric(), AttackSuccess(), CleanAccuracy())


def store_of(config: RunConfig) -> Store:
    return Store(Path(config.store.root))


def backdoored(root: Path, **changes: Any) -> RunConfig:
    """A linear classifier of digits with a 2x2 patch, shown at test time."""
    return small_config(
        root,
        **{
            "attack": Trigger(),
            "poisons": (PatchTrigger(size=2, rate=0.2),),
            "metrics": METRICS,
            "training": Training(epochs=3, learning_rate=0.02, selection_attack=plugin("attack", "fgsm")),
            "examples": 200,
            **changes,
        },
    )


def finished(config: RunConfig) -> tuple[Record, Outcomes]:
    result = run(config)
    assert result.status == "complete", result.error
    folder = store_of(config).cell(result.key)
    return read_record(folder), Outcomes.load(folder / OUTCOMES)


# --- what counts is what was stored ---


def test_the_poisoned_rows_lie_beside_the_weights_and_give_what_was_trained_on(tmp_path: Path) -> None:
    config = backdoored(tmp_path)
    loaded = loaded_of(config)
    _, card = fitted_of(config, loaded)
    file = store_of(config).system(config.system_key()) / POISON
    stored = PoisonedRows.load(file)
    made, _ = poison(config.poisons, loaded.splits, config.seed)
    assert card.poisoned_examples == len(stored.ids) == int(0.2 * 1097)
    assert stored.applied(loaded.splits.train).difference(made) == ""
    assert stored.probe is not None
    assert torch.equal(stored.probe, PatchTrigger(size=2).trigger(loaded.splits.test.x(torch.arange(8))))


def test_training_sees_the_rows_of_the_file_and_notices_a_file_that_lost_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PoisonedRows.save

    def rounded(self: PoisonedRows, path: Path) -> None:
        real(dataclasses.replace(self, x=(self.x * 4).round() / 4), path)

    monkeypatch.setattr(PoisonedRows, "save", rounded)
    config = backdoored(tmp_path)
    with pytest.raises(
        StoreError, match=r"poison\.safetensors does not contain the poison that was written: inputs differ"
    ):
        fitted_of(config)


def test_a_changed_file_is_another_poison_than_that_of_the_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = backdoored(tmp_path)
    fitted_of(config)
    file = store_of(config).system(config.system_key()) / POISON
    arrays = load_file(str(file))
    arrays["y"][0] += 1
    save_file(arrays, str(file))
    fitted_of(config)
    assert "has a poison.safetensors that does not match its card; it was set aside" in (capsys.readouterr().err)
    assert int(load_file(str(file))["y"][0]) == int(arrays["y"][0]) - 1


def test_a_trigger_that_is_not_the_stored_one_is_noticed(tmp_path: Path) -> None:
    loaded = loaded_of(backdoored(tmp_path))
    test = loaded.splits.test
    stored = PoisonedRows(
        test.ids[:0], test.x()[:0], test.y[:0], test.ids[:0] > 0, Backdoor(PatchTrigger()).probe(test)
    )
    Backdoor(PatchTrigger()).recheck(stored, test, Path(POISON))
    with pytest.raises(StoreError, match="holds another trigger than the poison's present one"):
        Backdoor(PatchTrigger(size=2)).recheck(stored, test, Path(POISON))
    instance = Backdoor(PatchTrigger(), victims=test.ids[3:4])
    with pytest.raises(StoreError, match="was crafted for other test examples"):
        instance.recheck(dataclasses.replace(stored, victims=test.ids[:1]), test, Path(POISON))


# --- rate and place ---


def flipped(train: Examples, rate: float) -> tuple[Examples, Tensor]:
    """The examples with the first labels changed, and the ids of these."""
    rows = torch.arange(int(rate * len(train)))
    return train.changed(rows, y=(train.y[rows] + 1) % 10), train.ids[rows]


@dataclass(frozen=True)
class Greedy(Poison):
    """Flips one row more than it may."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        return flipped(train, self.rate + 1 / len(train))


@dataclass(frozen=True)
class Secretive(Poison):
    """Darkens a row that it does not name."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        after, ids = flipped(train, self.rate)
        other = (~torch.isin(train.ids, ids)).nonzero().flatten()[:1]
        return after.changed(other, x=train.x(other) * 0.5), ids


@dataclass(frozen=True)
class Dropper(Poison):
    """Removes a row that it does not name."""

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        after, ids = flipped(train, self.rate)
        return after.take((train.ids != train.ids[~torch.isin(train.ids, ids)][0]).nonzero().flatten()), ids


@dataclass(frozen=True)
class Trespasser(Poison):
    """Adds a row under the id of a test example."""

    rate: float = 1 / 1097

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        id_of_a_test = torch.tensor([1300])
        ids = torch.cat([train.ids, id_of_a_test])
        return Examples.of(ids, torch.cat([train.x(), train.x()[:1]]), torch.cat([train.y, train.y[:1]])), id_of_a_test


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (Greedy(rate=0.05), r"poison\.greedy touched 55 examples, but its rate of 0\.05 allows 54; its author"),
        (Secretive(rate=0.05), r"poison\.secretive changed inputs but did not name it; its author must fix it"),
        (Dropper(rate=0.05), r"poison\.dropper changed which rows there are, or their order but did not name it"),
        (Trespasser(), r"poison\.trespasser changed the test split; a poison may change training examples only"),
    ],
)
def test_a_poison_that_does_more_than_it_says_ends_the_cell(tmp_path: Path, bad: Poison, sentence: str) -> None:
    with declared(("poison", type(bad))):
        config = small_config(tmp_path, poisons=(bad,))
        with pytest.raises(DataError, match=sentence):
            poison(config.poisons, loaded_of(config).splits, config.seed)


def test_poisons_stack_and_each_has_its_share_of_what_it_was_given(tmp_path: Path) -> None:
    config = small_config(tmp_path, poisons=(LabelFlip(rate=0.1), PatchTrigger(rate=0.05, size=2)))
    loaded = loaded_of(config)
    after, rows = poison(config.poisons, loaded.splits, config.seed)
    assert rows is not None
    assert rows.applied(loaded.splits.train).difference(after) == ""
    assert 109 <= len(rows.ids) <= 109 + 54


# --- the trigger at test time ---


def test_the_trigger_is_judged_by_the_label_it_evokes_over_examples_of_other_labels(tmp_path: Path) -> None:
    config = backdoored(tmp_path)
    record, outcomes = finished(config)
    system, _ = fitted_of(config)
    test = loaded_of(config).attacked
    said = system.logits(PatchTrigger(size=2).trigger(test.x()), SampleRandom(0, test.ids)).argmax(1)
    other = test.y != 0
    assert outcomes.triggered is not None
    assert outcomes.aimed is not None
    assert torch.equal(outcomes.triggered, said)
    assert torch.equal(outcomes.aimed, torch.where(other, 0, -1))
    assert torch.equal(outcomes.attacked, outcomes.clean_correct & other)
    assert torch.equal(outcomes.broken, outcomes.attacked & (said == 0))
    values = {m.name: m.value or 0.0 for m in record.metrics}
    assert values["backdoor_success_rate"] == pytest.approx(float((said == 0)[other].double().mean()))
    assert values["accuracy_despite_trigger"] == pytest.approx(float((said == test.y)[other].double().mean()))
    assert values["attack_success_rate"] == pytest.approx(
        float((said == 0)[other & outcomes.clean_correct].double().mean())
    )
    assert values["backdoor_success_rate"] > 0.8
    assert values["clean_accuracy"] > 0.8
    assert int(outcomes.forwards.sum()) == 0
    assert not record.attack.bounded


def test_an_example_that_the_trigger_only_confuses_is_not_broken(tmp_path: Path) -> None:
    _, outcomes = finished(backdoored(tmp_path, poisons=(PatchTrigger(size=6, rate=0.001),)))
    assert outcomes.triggered is not None
    confused = outcomes.attacked & (outcomes.triggered != outcomes.y) & (outcomes.triggered != 0)
    assert bool(confused.any())
    assert not bool((outcomes.broken & confused).any())


def test_the_record_of_a_trigger_is_proved_from_its_witness(tmp_path: Path) -> None:
    from benchmark.commands.verify import verify_record

    config = backdoored(tmp_path)
    record, outcomes = finished(config)
    folder, data = store_of(config).cell(record.key), Path(config.store.data)
    proof = verify_record(folder, record, store_of(config), data)
    assert proof.broken == proof.claimed == int(outcomes.broken.sum()) > 0


def test_other_attacks_say_nothing_of_the_trigger(tmp_path: Path) -> None:
    record, outcomes = finished(backdoored(tmp_path, attack=plugin("attack", "fgsm")))
    assert outcomes.triggered is None
    assert {m.name: m.value for m in record.metrics}["backdoor_success_rate"] is None


@pytest.mark.parametrize(
    ("poisons", "chosen"),
    [
        ((), "none"),
        ((LabelFlip(),), "label_flip"),
        ((PatchTrigger(), PatchTrigger(target=1)), "patch_trigger, patch_tri"),
    ],
)
def test_a_trigger_needs_one_poison_that_evokes_a_label(
    tmp_path: Path, poisons: tuple[Poison, ...], chosen: str
) -> None:
    result = run(backdoored(tmp_path, poisons=poisons))
    assert result.status == "refused"
    assert result.error is not None
    assert f"the system's poisons are {chosen}" in result.error


def test_targeted_flips_are_measured_without_a_trigger(tmp_path: Path) -> None:
    flips = LabelFlip(rate=0.08, flip=Flip.targeted, source=3, target=8)
    _, outcomes = finished(backdoored(tmp_path, poisons=(flips,)))
    assert outcomes.aimed is not None
    assert outcomes.triggered is not None
    assert torch.equal(outcomes.aimed, torch.where(outcomes.y == 3, 8, -1))
    assert torch.equal(outcomes.triggered, outcomes.clean_label)


def test_a_poison_for_given_inputs_counts_its_victims_alone(tmp_path: Path) -> None:
    crafted = FeatureCollision(rate=0.02, victims=2, steps=20, model=build("model", "linear"), epochs=2)
    config = backdoored(tmp_path, poisons=(crafted,))
    _, outcomes = finished(config)
    assert outcomes.aimed is not None
    assert int((outcomes.aimed == 0).sum()) == 2
    test = loaded_of(config).splits.test
    assert torch.equal(outcomes.ids[outcomes.aimed == 0], test.ids[(test.y != 0).nonzero().flatten()[:2]])


# --- what filters take, and detectors of triggers ---


def test_the_card_counts_rows_lost_per_label(tmp_path: Path) -> None:
    config = backdoored(
        tmp_path, defenses=(SpectralSignatures(poisoned=0.2, model=build("model", "linear"), epochs=2),)
    )
    loaded = loaded_of(config)
    _, card = fitted_of(config, loaded)
    (lost,) = card.rows_lost.values()
    made, rows = poison(config.poisons, loaded.splits, config.seed)
    assert rows is not None
    counts = torch.bincount(made.y, minlength=10).tolist()
    assert [row.rows for row in lost] == counts
    assert [row.removed for row in lost] == [int(1.5 * 0.2 * n) for n in counts]
    assert [row.poisoned for row in lost] == [len(rows.ids), *[0] * 9]
    assert sum(row.poisoned_removed for row in lost[1:]) == 0
    assert card.train_examples == 1097 - sum(row.removed for row in lost)


def test_strip_refuses_at_most_its_share_of_the_select_split(tmp_path: Path) -> None:
    config = backdoored(tmp_path, defenses=(Strip(overlays=16),))
    loaded = loaded_of(config)
    system, card = fitted_of(config, loaded)
    select = loaded.splits.select
    refused = system.rejects(select.x(), SampleRandom(0, select.ids))
    assert int(refused.sum()) <= 0.05 * len(select)
    assert list(card.thresholds) == ["strip"]
    record, _ = finished(config)
    assert record.counts is not None


def test_a_model_without_gradients_takes_no_defense_that_repairs_it(tmp_path: Path) -> None:
    config = backdoored(tmp_path, model=plugin("model", "boosted_trees"), defenses=(plugin("defense", "fine_pruning"),))
    result = run(config)
    assert result.status == "refused"
    assert result.error is not None
    assert "defense.fine_pruning changes such training (its repair)" in result.error


@pytest.mark.parametrize("name", ["fine_pruning", "neural_cleanse", "anti_backdoor_learning", "strip"])
def test_defenses_of_backdoors_go_through_the_pipeline_after_plain_looks_at_the_network(
    tmp_path: Path, name: str
) -> None:
    settings = {"neural_cleanse": {"steps": 20, "threshold": -10.0}}.get(name, {})
    defense = plugin("defense", name, **settings)
    model = build("model", "mlp_16_16")
    record, outcomes = finished(backdoored(tmp_path, model=model, defenses=(defense,), examples=50))
    assert outcomes.triggered is not None
    assert record.counts is not None
    assert record.counts.total == 50
