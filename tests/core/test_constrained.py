"""Cells under regions of their own, few values and every target: what is recorded, proved again and refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.review.check import check
from benchmark_leaderboard.review.parcel import Submitter
from benchmark_leaderboard.review.submission import pack_submission
from safetensors.torch import save_file
from torch import Tensor

from benchmark.commands.add_examples import record_given
from benchmark.commands.verify import main as verify
from benchmark.data import DataSpec, Examples
from benchmark.errors import ConfigError, RecordError
from benchmark.oracles.linear import nearest_class_mean
from benchmark.records.durable import file_sha256
from benchmark.records.outcomes import Outcomes
from benchmark.records.record import read_record
from benchmark.records.store import Store
from benchmark.records.witness import Witness
from benchmark.run import run
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.stages.batch import Attacked, Job, attack_batch
from benchmark.system import System
from benchmark.system.references import OWNED, References
from benchmark.system.target import Target
from benchmark.threat import Goal, Norm, Region, RegionKind, Threat, parse_eps
from tests.core.cells import plugin, small_config

DIGITS = nearest_class_mean("digits")
SYSTEM = System(DIGITS.model(), DataSpec((64,), 10))
X, Y, IDS = DIGITS.x[:40].float(), DIGITS.y[:40], torch.arange(40) * 2 + 1
RNG = SampleRandom(derive_seed(0, "cell"), IDS)


def _attacked(attack: Any, threat: Threat) -> Attacked:
    return attack_batch(Job(attack, threat, SYSTEM, SYSTEM, Examples.of(IDS, X, Y), 0, 40, Path()), X, Y, IDS)


def _alone(attack: Any, threat: Threat, rows: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """The candidates of one targeted attack by hand, towards `step` labels on, and which of them reach it."""
    mine, wanted = RNG.rows(rows), (Y[rows] + step) % 10
    target = Target(SYSTEM, rng=mine, classes=10)
    x_adv = attack.perturb(target, X[rows], wanted, threat=threat, rng=mine.child("goal", step - 1))
    within = threat.around(X[rows], mine).audit(x_adv).inside
    return x_adv, (SYSTEM.logits(x_adv, mine).argmax(1) == wanted) & within


@pytest.mark.parametrize(
    ("name", "norm", "eps", "settings"),
    [("pgd", Norm.linf, "1/5", {"steps": 4}), ("ddn", Norm.l2, "1", {"steps": 15})],
)
def test_all_targets_are_tried_one_after_the_other(name: str, norm: Norm, eps: str, settings: Any) -> None:
    """A bounded attack keeps the first candidate that reaches its label, a minimal one the nearest that does."""
    attack, threat = plugin("attack", name, **settings), Threat(norm, parse_eps(eps), goal=Goal.all)
    found = _attacked(attack, threat)
    outcomes, witness = found.outcomes, found.witness
    assert witness is not None
    assert outcomes.reached is not None
    rows = outcomes.attacked.nonzero().flatten()
    each = [_alone(attack, threat, rows, step) for step in range(1, 10)]
    reached = torch.stack([won for _, won in each], 1)
    assert torch.equal(outcomes.reached[rows], reached)
    assert not bool(outcomes.reached[~outcomes.attacked].any())
    assert torch.equal(outcomes.broken[rows], reached.any(1))
    assert 0 < int(reached.sum()) < reached.numel()
    spent = [_passes(attack, threat, rows, step) for step in range(1, 10)]
    assert torch.equal(outcomes.forwards[rows], torch.stack(spent).sum(0))
    far = torch.stack([(x_adv - X[rows]).norm(dim=1) for x_adv, _ in each], 1)
    far = torch.where(reached, far if attack.supports.minimal else torch.zeros_like(far), torch.inf)
    kept = far.sort(dim=1, stable=True).indices[:, 0]
    broken = outcomes.broken[rows]
    expected = torch.stack([x_adv for x_adv, _ in each], 1)[torch.arange(len(rows)), kept]
    shown = torch.isin(witness.ids, outcomes.ids[outcomes.broken])
    assert torch.equal(witness.x_adv[shown], expected[broken])
    assert torch.equal(outcomes.adv_label[rows][broken], ((Y[rows] + kept + 1) % 10)[broken])


def _passes(attack: Any, threat: Threat, rows: Tensor, step: int) -> Tensor:
    mine = RNG.rows(rows)
    target = Target(SYSTEM, rng=mine, classes=10)
    attack.perturb(target, X[rows], (Y[rows] + step) % 10, threat=threat, rng=mine.child("goal", step - 1))
    return target.ledger.forwards


def test_all_targets_share_one_budget() -> None:
    attack = plugin("attack", "simba")  # it asks about something new as long as it may
    threat = Threat(Norm.linf, parse_eps("1/100"), goal=Goal.all, queries=50)
    spent = _attacked(attack, threat).outcomes.forwards
    assert int(spent.max()) == 9 * (50 // 9) <= 50
    with pytest.raises(ConfigError, match=r"threat\.queries is 8, which threat\.goal=all divides among 9 labels"):
        _attacked(attack, dataclasses.replace(threat, queries=8))


def test_a_cell_of_all_targets_is_measured_proved_lowered_and_submitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threat = Threat(eps=parse_eps("1/4"), goal=Goal.all)
    metrics = (plugin("metric", "attack_success"), plugin("metric", "targets_reached"))
    config = small_config(
        tmp_path, attack=plugin("attack", "pgd", steps=3), threat=threat, examples=60, metrics=metrics
    )
    result = run(config)
    store, data = Store(tmp_path / "results"), tmp_path / "data"
    folder = store.cell(result.key)
    record, outcomes = read_record(folder), Outcomes.load(folder / "outcomes.safetensors")
    assert outcomes.reached is not None
    share = outcomes.reached[outcomes.attacked].double().mean(1)
    average, worst, best = (float(v) for v in (share.mean(), (share == 1).double().mean(), (share > 0).double().mean()))
    assert worst < average < best
    for name, value in (("targets_reached", average), ("every_target_reached", worst), ("attack_success_rate", best)):
        measured = record.metric(name)
        assert measured is not None
        assert measured.value == pytest.approx(value)
    assert verify([str(folder)], str(store.root), str(data)) == 0
    pack_submission([folder], store.root, tmp_path / "parcel", submitter=Submitter(name="A"))
    assert check(tmp_path / "parcel").accepted
    witness = Witness.load(folder / "witness.safetensors")
    save_file({"ids": witness.ids[:3].clone(), "x_adv": witness.x_adv[:3].clone()}, str(tmp_path / "mine.safetensors"))
    lowered = store.cell(record_given(folder, tmp_path / "mine.safetensors", store, data).key)
    mine = Outcomes.load(lowered / "outcomes.safetensors")
    assert mine.reached is not None
    assert mine.reached.sum(1).tolist() == mine.broken.long().tolist()
    assert bool((~mine.reached | outcomes.reached).all())
    assert verify([str(lowered)], str(store.root), str(data)) == 0
    outcomes.reached[outcomes.broken.nonzero()[0]] = False
    _forge(folder, "outcomes.safetensors", outcomes.tensors())
    with pytest.raises(
        RecordError, match="a broken example without a reached label, or an unbroken one with a reached label"
    ):
        pack_submission([folder], store.root, tmp_path / "forged", submitter=Submitter(name="A"))
    capsys.readouterr()


def _forge(folder: Path, name: str, tensors: dict[str, Tensor]) -> None:
    """Write a file beside a record, and its hash into the record."""
    save_file({key: value.contiguous() for key, value in tensors.items()}, str(folder / name))
    document = json.loads((folder / "record.json").read_text())
    for file in document["files"]:
        file["sha256"], file["bytes"] = file_sha256(folder / file["path"]), (folder / file["path"]).stat().st_size
    (folder / "record.json").write_text(json.dumps(document))


@pytest.mark.parametrize("size", [7, 60])
def test_saliency_and_eight_bits_are_proved_again_and_forgeries_are_not(
    tmp_path: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    threat = Threat(eps=parse_eps("1/2"), region=Region(RegionKind.saliency, 12), levels=256)
    config = small_config(
        tmp_path, attack=plugin("attack", "pgd", steps=5), threat=threat, examples=60, batch_size=size
    )
    result = run(config)
    store, data = str(tmp_path / "results"), str(tmp_path / "data")
    folder = Store(tmp_path / "results").cell(result.key)
    record, witness = read_record(folder), Witness.load(folder / "witness.safetensors")
    assert (record.threat.region, record.threat.levels) == ("saliency:12", 256)
    assert len(witness.ids) > 10
    test = config.dataset.load(data, offline=True).test  # type: ignore[arg-type]
    at = torch.searchsorted(test.ids, witness.ids)
    clean = test.x(at)
    changed = witness.x_adv != clean
    assert bool(((witness.x_adv * 255).round() / 255 == witness.x_adv)[changed].all())
    assert int(changed.flatten(1).sum(1).max()) <= 12
    assert verify([folder.as_posix()], store, data) == 0
    assert verify([folder.as_posix()], store, data, distances=True) == 1
    assert "unproved" in capsys.readouterr().out
    for spoilt in (_off_grid(witness, changed), _elsewhere(witness, clean)):
        _forge(folder, "witness.safetensors", {"ids": witness.ids, "x_adv": spoilt})
        assert verify([folder.as_posix()], store, data) == 1
        assert "is outside the threat" in capsys.readouterr().out


def _off_grid(witness: Witness, changed: Tensor) -> Tensor:
    x_adv = witness.x_adv.clone()
    place = changed[0].nonzero()[0]
    x_adv[0][tuple(place)] += 1 / 1024 if float(x_adv[0][tuple(place)]) < 0.5 else -1 / 1024
    return x_adv


def _elsewhere(witness: Witness, clean: Tensor) -> Tensor:
    """Another twelve pixels than the salient ones: all of the first row, and some of the second."""
    x_adv = clean.clone()
    x_adv[0, :, 0] = 1.0 - clean[0, :, 0].round()
    return x_adv


def test_results_under_saliency_do_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    threat = Threat(eps=parse_eps("1/2"), region=Region(RegionKind.saliency, 9), levels=16)
    base = small_config(
        tmp_path,
        model=plugin("model", "small_cnn"),
        attack=plugin("attack", "pgd", steps=3),
        threat=threat,
        examples=60,
    )
    found = []
    for size in (7, 60):
        place = dataclasses.replace(base.store, root=str(tmp_path / str(size)))
        key = run(dataclasses.replace(base, batch_size=size, store=place)).key
        found.append((tmp_path / str(size) / "cells" / key / "witness.safetensors").read_bytes())
    assert found[0] == found[1]


def test_a_mask_file_belongs_to_the_cell_and_not_to_its_system(tmp_path: Path) -> None:
    path, keys = tmp_path / "mask.npy", set()
    config = small_config(tmp_path, examples=20)
    masked = dataclasses.replace(config, threat=Threat(region=Region(RegionKind.file, path=str(path))))
    for every in (2, 3):
        np.save(path, np.arange(64).reshape(8, 8) % every == 0)
        keys.add(masked.cell_key())
        assert masked.system_key() == config.system_key()
    assert len(keys | {config.cell_key()}) == 3
    assert masked.cell_key(refused=True) not in keys  # looks at no file


def test_cells_of_different_levels_are_never_ranked_together(tmp_path: Path) -> None:
    for levels in (None, 256, 16):
        run(small_config(tmp_path, threat=Threat(eps=parse_eps("1/10"), levels=levels), examples=40))
    boards = aggregate(*read([tmp_path / "results" / "cells"])).boards
    found = sorted((board.protocol.conditions.levels or 0, len(board.rows)) for board in boards)
    assert found == [(0, 1), (16, 1), (256, 1)]
    assert len({board.protocol.key for board in boards}) == 3


def test_the_attacker_owns_the_first_examples_of_each_label() -> None:
    y = torch.tensor([2, 0, 2, 2, 0] + [2] * 12)
    x = torch.arange(17).float()[:, None] / 17
    references = References.of(Examples.of(torch.arange(17) + 50, x, y), 4)
    found, have = references.at(torch.tensor([2, 0, 1, 3, 2]), 1)
    assert have.tolist() == [True, True, False, False, True]
    assert torch.equal(found, x[[2, 4, 2]])
    assert references.at(torch.tensor([0, 2]), 2)[1].tolist() == [False, True]
    assert torch.equal(references.at(torch.tensor([2]), OWNED - 1)[0], x[[11]])
    target = Target(DIGITS.model(), rng=SampleRandom(0, torch.arange(2)), classes=4, owned=references)
    assert target.reference(torch.tensor([2, 2]), OWNED)[1].tolist() == [False, False]
    assert torch.equal(target.reference(torch.tensor([1, 2]), 0)[0], x[[0]])
    nobody = Target(DIGITS.model(), rng=SampleRandom(0, torch.arange(2)), classes=4)
    assert nobody.reference(torch.tensor([1, 2]), 0)[1].tolist() == [False, False]
    empty = References.of(Examples.of(torch.arange(0), x[:0], y[:0]), 4)
    assert empty.at(torch.tensor([0, 3]), 0)[1].tolist() == [False, False]
