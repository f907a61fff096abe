"""One cell from configuration to record: what is written, what is skipped, what never changes the result."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from benchmark.api import Attack, Supports
from benchmark.commands.verify import main as verify
from benchmark.records.outcomes import Outcomes
from benchmark.records.record import Record, read_record
from benchmark.records.store import Store
from benchmark.records.witness import Witness
from benchmark.run import run
from benchmark.system.target import Target
from benchmark.testing.faults_attack import ChangesItsInput, DrawsFromNumpy, DrawsFromTorch, SoundAttack
from benchmark.testing.faults_candidates import LeavesTheBall
from benchmark.threat import Access, Goal, Norm, Region, RegionKind, Threat, parse_eps
from tests.core.cells import declared, plugin, small_config


def _record(result: Any, root: Path) -> Record:
    return read_record(Store(root / "results").cell(result.key))


def _outcomes(result: Any, root: Path) -> dict[str, Tensor]:
    return Outcomes.load(Store(root / "results").cell(result.key) / "outcomes.safetensors").tensors()


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    for name, values in one.items():
        assert torch.equal(values, other[name]), name


def test_a_cell_leaves_a_complete_record(tmp_path: Path) -> None:
    result = run(small_config(tmp_path))
    assert (result.status, result.error, result.cached) == ("complete", None, False)
    record = _record(result, tmp_path)
    assert record.counts is not None
    assert record.cost is not None
    assert record.counts.total == 500
    assert record.counts.robust_correct <= record.counts.clean_correct
    assert record.cost.forwards == record.cost.backwards == record.counts.clean_correct  # FGSM: one pass each
    assert record.threat.eps_exact == "1/10"
    assert record.splits_disjoint
    assert {name: s.count for name, s in record.splits.items()} == {"train": 1097, "select": 200, "test": 500}
    outcomes = _outcomes(result, tmp_path)
    assert int(outcomes["broken"].sum()) == record.counts.clean_correct - record.counts.robust_correct
    witness = Witness.load(Store(tmp_path / "results").cell(result.key) / "witness.safetensors")
    assert torch.equal(witness.ids, outcomes["ids"][outcomes["adversarial"]])
    document = json.loads((Store(tmp_path / "results").cell(result.key) / "record.json").read_text())
    scripts_rely_on = {"schema_version", "key", "status", "error", "suite", "official", "seed", "system", "threat"}
    assert scripts_rely_on | {"attack", "counts", "metrics", "cost", "findings", "provenance"} <= set(document)


def test_a_cell_in_the_store_is_not_computed_again(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    first = run(config)
    path = Store(tmp_path / "results").cell(first.key) / "record.json"
    before = path.stat().st_mtime_ns
    again = run(config)
    assert again.cached
    assert again.key == first.key
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("attack", ["pgd", "deepfool"])
def test_results_do_not_depend_on_the_batch_size(tmp_path: Path, attack: str) -> None:
    model = plugin("model", "small_cnn")
    base = small_config(tmp_path, model=model, attack=plugin("attack", attack), examples=120)
    expected = None
    for size in (7, 64, 500):
        root = tmp_path / str(size)
        config = dataclasses.replace(
            base, batch_size=size, store=dataclasses.replace(base.store, root=str(root / "results"))
        )
        found = _outcomes(run(config), root)
        expected = expected or found
        _same(expected, found)
    assert expected is not None
    assert bool(expected["broken"].any())


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    one = small_config(tmp_path / "one", attack=plugin("attack", "pgd", steps=5), batch_size=64)
    trainer = dataclasses.replace(one.trainer, devices=2, strategy="ddp_spawn")
    run(one)  # trains the system in one process; the weights of two would differ by rounding
    two = small_config(tmp_path / "one", attack=plugin("attack", "pgd", steps=5), batch_size=64, trainer=trainer)
    Store(tmp_path / "one" / "results").cell(two.cell_key()).rename(tmp_path / "kept")
    result = run(two)
    assert result.status == "complete", result.error
    assert not result.cached
    _same(Outcomes.load(tmp_path / "kept" / "outcomes.safetensors").tensors(), _outcomes(result, tmp_path / "one"))


@dataclasses.dataclass(frozen=True)
class _NeedsMemory(SoundAttack):
    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: Any) -> Tensor:
        if len(x) > 40:
            raise torch.OutOfMemoryError("CUDA out of memory: pretended")
        return super().perturb(target, x, y, threat=threat, rng=rng)


def test_out_of_memory_halves_the_batch_and_changes_nothing(tmp_path: Path) -> None:
    with declared(("attack", _NeedsMemory), ("attack", SoundAttack)):
        small = run(small_config(tmp_path, attack=_NeedsMemory()))
        sound = run(small_config(tmp_path, attack=SoundAttack()))
        assert small.status == sound.status == "complete", small.error
        _same(_outcomes(small, tmp_path), _outcomes(sound, tmp_path))


@dataclasses.dataclass(frozen=True)
class _StopsOnce(SoundAttack):
    stopped: ClassVar[list[int]] = []

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: Any) -> Tensor:
        self.stopped.append(len(x))
        if len(self.stopped) == 3:
            signal.raise_signal(signal.SIGINT)
        return super().perturb(target, x, y, threat=threat, rng=rng)


def test_an_interrupted_cell_goes_on_where_it_was(tmp_path: Path) -> None:
    with declared(("attack", _StopsOnce), ("attack", SoundAttack)):
        config = small_config(tmp_path, attack=_StopsOnce(), batch_size=100)
        with pytest.raises(KeyboardInterrupt):
            run(config)
        assert Store(tmp_path / "results").unfinished()[0]["key"] == config.cell_key()
        result = run(dataclasses.replace(config, batch_size=60))  # and with another batch size at that
        assert len(_StopsOnce.stopped) == 3 + 5 + 1  # 200 were done, 300 are left, 60 at a time, and a few once more
        _same(_outcomes(result, tmp_path), _outcomes(run(small_config(tmp_path, attack=SoundAttack())), tmp_path))
        assert Store(tmp_path / "results").unfinished() == []


@dataclasses.dataclass(frozen=True)
class _AsksForGradients(SoundAttack):
    supports: ClassVar[Supports] = Supports(access=Access.scores)


@dataclasses.dataclass(frozen=True)
class _ReturnsNan(Attack):
    supports: ClassVar[Supports] = Supports(access=Access.labels)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: Any) -> Tensor:
        return torch.where(y.reshape(-1, 1, 1, 1) == 3, torch.nan, x)


@dataclasses.dataclass(frozen=True)
class _Raises(SoundAttack):
    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: Any) -> Tensor:
        raise ZeroDivisionError("of its own")


SCORES = Threat(eps=parse_eps("1/10"), access=Access.scores)


@pytest.mark.parametrize(
    ("attack", "threat", "sentence"),
    [
        (ChangesItsInput, None, "attack.changesitsinput from test-plugins 1.0 changed its input in place"),
        (DrawsFromTorch, None, "drew from a global random generator"),
        (DrawsFromNumpy, None, "drew from a global random generator"),
        (_Raises, None, "from test-plugins 1.0 (test_pipeline.py, line "),
        (_Raises, None, ") raised ZeroDivisionError: of its own"),
        (_AsksForGradients, SCORES, "the attack asked for a gradient, but threat.access is scores"),
    ],
)
def test_a_faulty_attack_fails_by_name_and_nothing_else_does(
    tmp_path: Path, attack: type[Any], threat: Threat | None, sentence: str
) -> None:
    with declared(("attack", attack)):
        config = small_config(tmp_path, attack=attack())
        result = run(config if threat is None else dataclasses.replace(config, threat=threat))
        assert result.status == "failed"
        assert sentence in str(result.error)
        record = _record(result, tmp_path)
        assert record.counts is None
        assert "Traceback" in record.provenance["traceback"]
        assert run(small_config(tmp_path)).status == "complete"


@pytest.mark.parametrize(("attack", "why"), [(LeavesTheBall, "outside_ball"), (_ReturnsNan, "non_finite")])
def test_candidates_outside_the_threat_are_excluded_and_reported(tmp_path: Path, attack: type[Any], why: str) -> None:
    with declared(("attack", attack)):
        record = _record(run(small_config(tmp_path, attack=attack())), tmp_path)
    assert record.status == "complete"
    assert record.counts is not None
    assert record.audit is not None
    assert record.counts.invalid > 0
    assert record.audit.model_dump()[why] == record.counts.invalid
    assert [f.name for f in record.findings] == ["invalid_candidates"]
    robust = record.metric("robust_accuracy")
    assert robust is not None
    expected = record.counts.robust_correct / record.counts.total
    assert robust.value == pytest.approx(expected)


def test_parts_that_do_not_fit_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    config = small_config(tmp_path, threat=Threat(norm=Norm.l0, eps=parse_eps("3")))
    result = run(config)
    assert result.status == "refused"
    assert str(result.error).startswith("attack.fgsm perturbs under l1, l2, linf, but threat.norm is l0; choose")
    assert not (tmp_path / "results" / "systems").exists()
    assert run(config).cached


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, so the cell can be computed")
def test_a_missing_device_is_named_and_leaves_no_record(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    result = run(dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, accelerator="gpu")))
    assert result.status == "failed"
    assert "torch finds no CUDA device; use trainer=cpu" in str(result.error)
    assert not (tmp_path / "results").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_nearly_what_the_cpu_gives(tmp_path: Path) -> None:
    config = small_config(tmp_path, attack=plugin("attack", "pgd", steps=10))
    here = _outcomes(run(config), tmp_path)
    there = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, accelerator="gpu"))
    Store(tmp_path / "results").cell(config.cell_key()).rename(tmp_path / "kept")
    found = _outcomes(run(there), tmp_path)
    assert int((here["broken"] != found["broken"]).sum()) <= 2


def test_a_failed_cell_is_redone_only_when_asked(tmp_path: Path) -> None:
    config = small_config(tmp_path, dataset=plugin("dataset", "mnist"))
    first = run(config)
    assert first.status == "failed"
    assert "train-images-idx3-ubyte.gz" in str(first.error)
    again = run(config)
    assert again.cached
    assert str(again.error).endswith("(recorded; retry=failed runs it again)")
    retry = type(config.retry)["failed"]
    assert not run(dataclasses.replace(config, retry=retry)).cached


@pytest.mark.parametrize("goal", [Goal.next_class, Goal.least_likely, Goal.random_class])
def test_targeted_threats_count_only_the_label_to_reach(tmp_path: Path, goal: Goal) -> None:
    attack = plugin("attack", "pgd", steps=10, stop_on_success=False)
    targeted = run(small_config(tmp_path, attack=attack, threat=Threat(eps=parse_eps("1/5"), goal=goal)))
    found = _outcomes(targeted, tmp_path)
    broken = found["broken"]
    assert bool(broken.any())
    if goal is Goal.next_class:
        assert torch.equal(found["adv_label"][broken], (found["y"][broken] + 1) % 10)
    assert bool((found["adv_label"][broken] != found["y"][broken]).all())


@pytest.mark.parametrize(
    "region", [Region(RegionKind.square, 4), Region(RegionKind.border, 1), Region(RegionKind.random, 9)]
)
def test_regions_leave_the_rest_untouched(tmp_path: Path, region: Region) -> None:
    attack = plugin("attack", "pgd", steps=10)
    threat = Threat(eps=parse_eps("1/2"), region=region)
    result = run(small_config(tmp_path, attack=attack, threat=threat))
    record = _record(result, tmp_path)
    assert record.counts is not None
    assert record.counts.invalid == 0
    witness = Witness.load(Store(tmp_path / "results").cell(result.key) / "witness.safetensors")
    splits = plugin("dataset", "digits").load(tmp_path, offline=True)
    at = torch.searchsorted(splits.test.ids, witness.ids)
    changed = (witness.x_adv != splits.test.x(at)).flatten(1).sum(1)
    assert 0 < int(changed.max()) <= {RegionKind.square: 16, RegionKind.border: 28, RegionKind.random: 9}[region.kind]


def test_records_are_proved_again_and_forged_ones_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(small_config(tmp_path))
    store, data = str(tmp_path / "results"), str(tmp_path / "data")
    folder = Store(tmp_path / "results").cell(result.key)
    assert verify([str(folder)], store, data) == 0
    assert "broken examples proved" in capsys.readouterr().out
    document = json.loads((folder / "record.json").read_text())
    document["counts"]["robust_correct"] += 1
    (folder / "record.json").write_text(json.dumps(document))
    assert verify([str(folder)], store, data) == 1
    assert "but its outcomes give" in capsys.readouterr().out


def test_a_witness_outside_the_ball_proves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import save_file

    from benchmark.records.durable import file_sha256

    result = run(small_config(tmp_path))
    folder = Store(tmp_path / "results").cell(result.key)
    witness = Witness.load(folder / "witness.safetensors")
    forged = witness.x_adv.clone()
    forged[0] = 1.0 - forged[0]
    save_file({"ids": witness.ids.clone(), "x_adv": forged}, str(folder / "witness.safetensors"))
    document = json.loads((folder / "record.json").read_text())
    for file in document["files"]:
        file["sha256"] = file_sha256(folder / file["path"])
    (folder / "record.json").write_text(json.dumps(document))
    assert verify([str(folder)], str(tmp_path / "results"), str(tmp_path / "data")) == 1
    assert "is outside the threat" in capsys.readouterr().out


def test_overlapping_splits_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(tmp_path)
    splits = config.dataset.load(tmp_path, offline=True)
    leaky = dataclasses.replace(splits, select=splits.test)
    monkeypatch.setattr(type(config.dataset), "load", lambda *_, **__: leaky)
    result = run(dataclasses.replace(config, seed=77))
    assert result.status == "failed"
    assert "splits must not overlap" in str(result.error)


def test_nothing_is_said_about_srun_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    assert run(small_config(tmp_path, examples=8)).status == "complete"  # warnings are errors here
    assert "srun" not in capfd.readouterr().err
