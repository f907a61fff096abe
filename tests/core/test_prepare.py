"""Preparation once per cell: its examples, once for all sittings and processes, in the record."""

from __future__ import annotations

import dataclasses
import re
import signal
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from benchmark_leaderboard.review.check_cell import checked_cell
from safetensors.torch import load_file
from torch import Tensor

from benchmark.data import Examples
from benchmark.records.outcomes import Outcomes
from benchmark.records.record import Record, read_record
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.stages.attack import _worker
from benchmark.stages.batch import Job
from benchmark.stages.prepare import PREPARED, Prepared, first_of_each_label
from benchmark.stages.quiet import QuietInChild
from benchmark.system.references import References
from benchmark.system.target import Target
from benchmark.testing.faults_prepared import DrawsWhilePreparing, SoundPrepared
from benchmark.testing.worlds import world
from benchmark.threat import Threat
from tests.core.cells import declared, plugin, small_config


def _cell(result: Any, root: Path) -> tuple[Record, Path, dict[str, Tensor]]:
    folder = Store(root / "results").cell(result.key)
    return read_record(folder), folder, Outcomes.load(folder / "outcomes.safetensors").tensors()


def test_what_was_prepared_lies_beside_the_record_with_what_it_cost(tmp_path: Path) -> None:
    config = small_config(tmp_path, attack=plugin("attack", "universal", examples=60, epochs=4), examples=50)
    result = run(config)
    assert result.status == "complete", result.error
    record, folder, outcomes = _cell(result, tmp_path)
    assert record.cost is not None
    assert (record.cost.prepared_forwards, record.cost.prepared_backwards) == (240, 240)
    assert (record.cost.forwards, record.cost.backwards) == (0, 0)
    assert PREPARED in [file.path for file in record.files]
    (delta,) = load_file(str(folder / PREPARED)).values()
    assert delta.shape == (1, 1, 8, 8)
    assert float(delta.abs().max()) == pytest.approx(0.08)  # eight steps of eps / 10
    assert bool(outcomes["broken"].any())
    checked_cell(folder)
    plain = run(small_config(tmp_path, examples=50))
    record, folder, _ = _cell(plain, tmp_path)
    assert PREPARED not in [file.path for file in record.files]
    assert record.cost is not None
    assert record.cost.prepared_forwards == 0


@dataclasses.dataclass(frozen=True)
class _Counted(SoundPrepared):
    """Notes what it was given, and is interrupted at the second batch of its first sitting."""

    given: ClassVar[list[tuple[Tensor, Tensor]]] = []
    batches: ClassVar[list[int]] = []

    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: Any) -> dict[str, Tensor]:
        self.given.append((rng.ids, y))
        return super().prepare(target, x, y, threat=threat, rng=rng)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: Any) -> Tensor:
        self.batches.append(len(x))
        if len(self.batches) == 2:
            signal.raise_signal(signal.SIGINT)
        return super().perturb(target, x, y, threat=threat, rng=rng)


def test_it_is_prepared_once_from_training_examples_of_all_labels(tmp_path: Path) -> None:
    with declared(("attack", _Counted), ("attack", SoundPrepared)):
        config = small_config(tmp_path, attack=_Counted(examples=35), batch_size=200)
        with pytest.raises(KeyboardInterrupt):
            run(config)
        result = run(config)
        assert result.status == "complete", result.error
        ((ids, y),) = _Counted.given
        assert len(_Counted.batches) == 4 + 1  # and a few examples once more
        train = plugin("dataset", "digits").load(tmp_path, offline=True).train
        assert bool(torch.isin(ids, train.ids).all())
        assert torch.equal(y[:30].reshape(3, 10), torch.arange(10).expand(3, -1))
        sound = run(small_config(tmp_path, attack=SoundPrepared(examples=35), batch_size=64))
        for name, values in _cell(result, tmp_path)[2].items():
            assert torch.equal(values, _cell(sound, tmp_path)[2][name]), name


@dataclasses.dataclass(frozen=True)
class Noted(SoundPrepared):
    """Notes from how many examples it prepared itself."""

    prepared: ClassVar[list[int]] = []

    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: Any) -> dict[str, Tensor]:
        self.prepared.append(len(x))
        return super().prepare(target, x, y, threat=threat, rng=rng)


@dataclasses.dataclass
class _Fabric:
    """One of two processes, as Fabric would start it."""

    global_rank: int
    world_size: int = 2
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))

    def barrier(self) -> None:
        pass

    def broadcast(self, values: Any, src: int = 0) -> Any:
        return values


def test_one_of_several_processes_prepares_and_the_others_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda _count: None)
    x, y, ids = world().x, world().y, world().ids
    known = References.of(Examples.of(ids + 1000, x, y), 3)
    job = Job(Noted(), Threat(), world().system, world().system, Examples.of(ids, x, y), 0, 2, tmp_path, owned=known)
    todo = [(0, 2), (2, 4), (4, 6)]
    for rank in range(2):
        _worker(_Fabric(rank), job, todo, QuietInChild())
    assert Noted.prepared == [6]
    assert len(list(tmp_path.glob("part-*"))) == 3


@dataclasses.dataclass(frozen=True)
class _GivesAList(SoundPrepared):
    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: Any) -> Any:
        return [x]


@pytest.mark.parametrize(
    ("attack", "sentence"),
    [
        (_GivesAList, r"_GivesAList\.prepare returned \[tensor.*; expected tensors by name: its author must fix it"),
        (DrawsWhilePreparing, "drew from a global random generator; randomness must come from `rng`"),
    ],
)
def test_a_fault_while_preparing_is_named(tmp_path: Path, attack: type[SoundPrepared], sentence: str) -> None:
    with declared(("attack", attack)):
        result = run(small_config(tmp_path, attack=attack()))
    assert result.status == "failed"
    assert re.search(sentence, result.error or ""), result.error


def test_the_first_of_each_label_come_in_turn() -> None:
    y = torch.tensor([2, 0, 0, 2, 1, 0, 2])
    examples = Examples.of(torch.arange(7), torch.zeros(7, 1), y)
    assert first_of_each_label(examples, 100).tolist() == [1, 4, 0, 2, 3, 5, 6]
    assert first_of_each_label(examples, 4).tolist() == [1, 4, 0, 2]


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    assert Prepared.load(tmp_path) is None
    made = Prepared({"delta": torch.rand(2, 3), "cost": torch.arange(4)}, 7, 3, 0.25)
    made.save(tmp_path)
    read = Prepared.load(tmp_path)
    assert read is not None
    assert (read.forwards, read.backwards, read.seconds) == (7, 3, 0.25)
    assert {name: value.tolist() for name, value in read.tensors.items()} == {
        name: value.tolist() for name, value in made.tensors.items()
    }
