"""The transfer matrix: what one forward pass by hand gives, measured once, from what was made on the source."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.cli import main
from benchmark.records.arrivals import FOLDER, Pair, read_arrivals
from benchmark.records.outcomes import OUTCOMES, Outcomes
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.records.witness import WITNESS, Witness
from benchmark.run import run
from benchmark.sampling import SampleRandom
from benchmark.stages.replay import rebuilt
from benchmark.threat import Access, Goal, Region, RegionKind, Threat
from tests.core.cells import plugin, small_config

EPS = Fraction(3, 20)


def finished(root: Path, attack: str, threat: Threat | None = None, settings: Any = None, **changes: Any) -> str:
    """The key of a cell, computed unless the store has it."""
    made = plugin("attack", attack, **(settings or {}))
    result = run(small_config(root, attack=made, threat=threat or Threat(eps=EPS), examples=70, **changes))
    assert result.status == "complete", result.error
    return result.key


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three systems under linf 3/20: one attacked by two attacks, one also with a minimal one, one noisy."""
    root = tmp_path_factory.mktemp("transfer")
    finished(root, "fgsm")
    finished(root, "pgd", settings={"steps": 3})
    finished(root, "mi_fgsm", seed=1)
    finished(root, "deepfool", seed=1)
    finished(root, "fgsm", model=plugin("model", "mlp"), defenses=(plugin("defense", "jpeg", quality=60),))
    return root


@pytest.fixture
def store(root: Path, tmp_path: Path) -> Store:
    """A copy that a test may change."""
    shutil.copytree(root / "results", tmp_path / "results")
    return Store(tmp_path / "results")


def measured(store: Store, capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[tuple[str, str], Pair]]:
    """The output of the command, and the pairs that lie in the store afterwards."""
    capsys.readouterr()
    assert main(["transfer", "--store", str(store.root)]) == 0
    found = [read_arrivals(path) for path in sorted((store.root / FOLDER).glob("*.json"))]
    return capsys.readouterr().out, {
        (pair.source, arrivals.target): pair for arrivals in found if arrivals is not None for pair in arrivals.pairs
    }


def by_hand(store: Store, source: list[Record], target: Record) -> tuple[int, int]:
    """Tried and transferred, from the files, one example at a time."""
    cell = rebuilt(target, store, Path())
    system, examples = cell.system, cell.examples
    tried, transferred = set(), set()
    for record in source:
        folder = store.cell(record.key)
        outcomes, witness = Outcomes.load(folder / OUTCOMES), Witness.load(folder / WITNESS)
        for example, x_adv in zip(witness.ids.tolist(), witness.x_adv, strict=True):
            row = int((outcomes.ids == example).nonzero())
            rng = SampleRandom(0, outcomes.ids[row : row + 1])
            clean = system.logits(examples.x(torch.tensor([row])), rng).argmax()
            if outcomes.broken[row] and clean == outcomes.y[row]:
                tried.add(example)
                if system.logits(x_adv[None], rng).argmax() != outcomes.y[row]:
                    transferred.add(example)
    return len(tried), len(transferred)


def test_every_pair_counts_what_one_forward_pass_says(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    records = store.records()
    systems = {record.system.key: [r for r in records if r.system.key == record.system.key] for record in records}
    assert sorted(map(len, systems.values())) == [1, 2, 2]
    said, pairs = measured(store, capsys)
    assert set(pairs) == {(a, b) for a in systems for b in systems if a != b}
    for (source, target), pair in pairs.items():
        expected = by_hand(store, systems[source], systems[target][0])
        assert (pair.tried, pair.transferred) == expected
        assert f"{pair.transferred}/{pair.tried}" in said
        assert sorted(pair.cells) == [record.key for record in systems[source]]
        for record in systems[source]:
            assert pair.cells[record.key] == by_hand(store, [record], systems[target][0])
    assert any(0 < pair.transferred < pair.tried for pair in pairs.values())
    passes = sum(tried for pair in pairs.values() for tried, _ in pair.cells.values())
    assert f"digits, linf 3/20, untargeted, 70 examples: 6 pairs of 3 systems, {passes} new passes" in said
    assert said.count("itself") == 3


def test_what_was_measured_is_not_measured_again(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    first, pairs = measured(store, capsys)
    files = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (store.root / FOLDER).iterdir()}
    again, same = measured(store, capsys)
    assert pairs == same
    assert files == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (store.root / FOLDER).iterdir()}
    assert "6 pairs of 3 systems, 0 new passes" in again
    assert first.splitlines()[1:] == again.splitlines()[1:]


def test_a_new_cell_is_measured_with_the_pairs_of_its_system(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    _, before = measured(store, capsys)
    new = finished(store.root.parent, "bim", seed=1)
    record = store.record(new)
    assert record is not None
    _, after = measured(store, capsys)
    changed = {pair for pair in after if after[pair] != before[pair]}
    assert changed == {pair for pair in after if pair[0] == record.system.key}
    for pair in changed:
        assert len(after[pair].cells) == 3
        assert after[pair].transferred >= before[pair].transferred


def test_the_same_weights_in_another_system_are_fooled_by_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = finished(tmp_path, "fgsm")
    store = Store(tmp_path / "results")
    record = store.record(key)
    assert record is not None
    twin = plugin("model", "checkpoint", path=str(store.system(record.system.key) / "weights.safetensors"),
                  model=plugin("model", "linear"))  # fmt: skip
    finished(tmp_path, "fgsm", model=twin)
    _, pairs = measured(store, capsys)
    broken = int(Outcomes.load(store.cell(key) / OUTCOMES).broken.sum())
    assert [(pair.tried, pair.transferred) for pair in pairs.values()] == [(broken, broken)] * 2
    assert broken > 20


def test_under_a_target_label_that_label_must_be_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threat = Threat(eps=Fraction(3, 10), goal=Goal.next_class)
    first, second = (finished(tmp_path, "mi_fgsm", threat, seed=seed) for seed in (0, 1))
    store = Store(tmp_path / "results")
    _, pairs = measured(store, capsys)
    source, target = (store.record(key) for key in (first, second))
    assert source is not None
    assert target is not None
    pair = pairs[source.system.key, target.system.key]
    system = rebuilt(target, store, Path()).system
    outcomes, witness = Outcomes.load(store.cell(first) / OUTCOMES), Witness.load(store.cell(first) / WITNESS)
    theirs = Outcomes.load(store.cell(second) / OUTCOMES)
    rows = outcomes.broken & theirs.clean_correct
    label = system.logits(witness.x_adv, SampleRandom(0, witness.ids)).argmax(1)[rows[outcomes.adversarial]]
    reached = label == (outcomes.y[rows] + 1) % 10
    wrong = label != outcomes.y[rows]
    assert (pair.tried, pair.transferred) == (int(rows.sum()), int(reached.sum()))
    assert 0 < int(reached.sum()) < int(wrong.sum())


def test_examples_of_a_transfer_attack_were_not_made_on_their_system(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    _, before = measured(store, capsys)
    linear = next(record for record in store.records() if record.system.model == "linear")
    threat = Threat(eps=EPS, access=Access.transfer, surrogate=linear.system.key)
    finished(store.root.parent, "mi_fgsm", threat, model=plugin("model", "mlp"))
    said, after = measured(store, capsys)
    (attacked,) = {target for _, target in after} - {source for source, _ in after}
    assert attacked not in {system for pair in before for system in pair}
    assert len(after) == len(before) + 3
    assert next(line for line in said.splitlines() if "mlp seed 0" in line).split()[4:].count("-") == 3


def test_a_system_whose_weights_are_gone_is_named_and_the_others_are_measured(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = store.records()[0].system.key
    (store.system(gone) / "card.json").unlink()
    said, pairs = measured(store, capsys)
    assert f"  skipped: the system {gone} is not in" in said
    assert len(pairs) == 4
    assert {target for _, target in pairs} == {r.system.key for r in store.records()} - {gone}


def test_a_witness_that_was_changed_is_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    victim = store.records()[0]
    path = store.cell(victim.key) / WITNESS
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    said, pairs = measured(store, capsys)
    assert (
        f"skipped: cell {victim.key} is disproved: {path} is missing or does not have the sha256 in the record" in said
    )
    assert victim.system.key not in {source for source, _ in pairs}


def test_a_store_without_two_systems_has_nothing_to_try(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transfer", "--store", str(tmp_path)]) == 2
    assert f"{tmp_path}/cells has no complete record; give the folder of a store" in capsys.readouterr().err
    finished(tmp_path, "fgsm")
    mask = tmp_path / "mask.npy"
    for seed in (0, 1):
        np.save(mask, np.arange(64).reshape(8, 8) > seed)  # another mask of that name is another threat
        finished(tmp_path, "fgsm", Threat(eps=EPS, region=Region(RegionKind.file, path=str(mask))), seed=seed)
    capsys.readouterr()
    assert main(["transfer", "--store", str(tmp_path / "results")]) == 0
    assert capsys.readouterr().out.startswith("no two systems were attacked under the same threat on the same examples")
