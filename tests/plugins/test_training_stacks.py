"""Training defenses in stacks: each beside adversarial training, and all that carry something through a restart."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark import registry
from benchmark.api import Defense
from benchmark.config.check import check_fit
from benchmark.config.schema import Training
from benchmark.data import Batch, DataSpec
from benchmark.errors import PluginFault, Refused
from benchmark.sampling import SampleRandom
from benchmark.stages.fitting import Fitting, stacked
from benchmark.system.networks import cross_entropy
from benchmark.testing import contract
from benchmark.testing.worlds import examples
from tests.core.cells import fitted_of, loaded_of, plugin, small_config

STAGES = ("prepare", "build", "start", "at_epoch", "replays", "loss", "after_step", "averaging")
TRAINS = [
    name
    for name in registry.names("defense")
    if registry.find("defense", name).distribution == registry.DISTRIBUTION
    and any(getattr(registry.load("defense", name), s) is not getattr(Defense, s) for s in STAGES)
]


class Rectified(nn.Module):
    """Batch normalisation, a layer, ReLU, a layer."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.norm, self.active = nn.BatchNorm1d(108), nn.ReLU()
        self.first = nn.Parameter(torch.randn(108, 8, generator=draw) / 4)
        self.last = nn.Parameter(torch.randn(8, spec.classes, generator=draw))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.active(self.norm(x.flatten(1)) @ self.first) @ self.last
        return logits


def _objective(name: str) -> Any:
    kind = type(contract.build("defense", "adversarial_training").objective)
    attack = contract.build("attack", "pgd", steps=2, stop_on_success=False)
    return contract.build("defense", "adversarial_training", attack=attack, objective=kind(name), steps=2)


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("name", [name for name in TRAINS if name != "adversarial_training"])
def test_each_stands_before_and_after_adversarial_training(name: str, first: bool) -> None:
    other, adversarial = contract.build("defense", name), _objective("trades")
    stack = [other, adversarial] if first else [adversarial, other]
    train, spec = examples()
    model: nn.Module = Rectified(spec)
    for defense in stack:
        model = defense.build(model, spec)
    for defense in stack:
        train = defense.prepare(train, spec, SampleRandom(0, train.ids))
    model.train()
    now = [defense.start(model, train, spec, lambda *_: None).at_epoch(3, 4) for defense in stack]
    at = torch.arange(min(16, len(train)))  # some defenses drop rows
    batch = Batch(train.ids[at], train.x(at), train.y[at], None if train.soft is None else train.soft[at])
    loss = stacked(now, SampleRandom(1, batch.ids), cross_entropy)(model, batch)
    found = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    slopes = [s for s in found if s is not None]  # of an ensemble, some members are of a kind that learns otherwise
    assert bool(torch.isfinite(loss))
    assert all(bool(torch.isfinite(s).all()) for s in slopes)
    nothing = name == "partition_aggregation" and not first  # its networks are trained afterwards
    assert any(bool((s != 0).any()) for s in slopes) != nothing
    assert model.training


class _Killed(BaseException):
    pass


def test_what_is_carried_through_training_survives_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Training(epochs=4, batch_size=128, learning_rate=0.01, selection_attack=plugin("attack", "pgd", steps=1))
    rule = type(contract.build("defense", "weight_averaging").rule)
    defenses = (
        plugin("defense", "distillation", temperature=2.0),
        plugin("defense", "free_adversarial_training", m=2),
        plugin("defense", "weight_perturbation", warm_up=1),
        plugin("defense", "weight_averaging", rule=rule.swa),
    )
    whole = small_config(tmp_path / "whole", training=recipe, defenses=defenses)
    broken = dataclasses.replace(whole, store=dataclasses.replace(whole.store, root=str(tmp_path / "broken")))
    loaded = loaded_of(whole)
    _, expected = fitted_of(whole, loaded)
    real = Fitting.training_step

    def stop(self: Any, batch: Any, batch_idx: int) -> Tensor:
        if self.defenses and self.current_epoch == 2 and batch_idx == 3:
            raise _Killed
        return real(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "training_step", stop)
        with pytest.raises(PluginFault, match="_Killed"):
            fitted_of(broken, loaded)
    epochs: list[tuple[bool, int]] = []

    def count(self: Any, batch: Any, batch_idx: int) -> Tensor:
        epochs.append((bool(self.defenses), self.current_epoch))
        return real(self, batch, batch_idx)

    monkeypatch.setattr(Fitting, "training_step", count)
    _, found = fitted_of(broken, loaded)
    assert set(epochs) == {(True, 2), (True, 3)}  # the teacher is read, not trained again
    assert found.weights_sha256 == expected.weights_sha256
    assert found.history == expected.history


@pytest.mark.parametrize("other", ["adversarial_training", "free_adversarial_training", "mixup", "weight_averaging"])
def test_a_defense_that_trains_alone_refuses_what_it_would_drop(other: str, tmp_path: Path) -> None:
    alone = plugin("defense", "partition_aggregation")
    stack = (alone, plugin("defense", other))
    for defenses in (stack, stack[::-1]):
        with pytest.raises(Refused, match=rf"partition_aggregation trains its networks alone.*defense\.{other}"):
            check_fit(small_config(tmp_path, defenses=defenses))
    check_fit(small_config(tmp_path, defenses=(alone, plugin("defense", "jpeg"), plugin("defense", "magnet"))))
