"""Progress inside a batch: passes made, of those that an attack declares."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from benchmark import hookimpl
from benchmark.api import Tracker
from benchmark.config.declared import declared_passes
from benchmark.config.describe import attack_info
from benchmark.run import run
from benchmark.system import ledger
from benchmark.system.ledger import Ledger
from tests.core.cells import plugin, small_config


@dataclass(frozen=True)
class Listening(Tracker):
    heard: list[tuple[str, int, int]] = field(default_factory=list)

    def __deepcopy__(self, memo: object) -> Listening:
        return self

    @hookimpl
    def benchmark_progress(self, stage: str, done: int, total: int) -> None:
        self.heard.append((stage, done, total))


def test_a_long_batch_tells_its_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "TELL", 0.0)
    listening = Listening()
    attack = plugin("attack", "pgd", steps=7)
    config = small_config(tmp_path, attack=attack, examples=40, batch_size=20, trackers=(listening,))
    assert run(config).status == "complete"
    made = [(done, total) for stage, done, total in listening.heard if stage == "passes"]
    assert {total for _, total in made} == {7 * 40}
    assert [done for done, _ in made] == sorted(done for done, _ in made)
    first = [stage for stage, *_ in listening.heard].index("attack")
    assert 7 <= first <= 8  # told inside the batch, and before the first batch was done
    assert listening.heard[first] == ("attack", 20, 40)


def test_nobody_is_told_of_short_batches() -> None:
    told: list[torch.Tensor] = []
    quick = Ledger(3, torch.device("cpu"), None, told.append)
    for _ in range(100):
        quick.charge(None)
    assert len(told) <= 1
    assert quick.forwards.tolist() == [100, 100, 100]


@pytest.mark.parametrize(
    ("name", "settings", "passes"),
    [("noise", {}, 1), ("fgsm", {}, 1), ("pgd", {"steps": 20, "restarts": 3}, 60), ("square", {"queries": 300}, 300)],
)
def test_declared_passes(name: str, settings: dict[str, int], passes: float) -> None:
    assert declared_passes(attack_info(plugin("attack", name, **settings)).params) == passes


def test_members_count_towards_what_an_attack_declares() -> None:
    members = (plugin("attack", "pgd", steps=20), plugin("attack", "square", queries=300))
    assert declared_passes(attack_info(plugin("attack", "cascade", members=members)).params) == 320
