"""Training: deterministic, resumable, by the recipe; the stages of defenses; systems cached by content."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

from benchmark.api import Defense, Loss, Model
from benchmark.config.cell import RunConfig
from benchmark.config.schema import Optimizer, Schedule, Training
from benchmark.data import Batch, DataSpec, Examples
from benchmark.errors import PluginFault, Refused
from benchmark.records.card import Card
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.sampling import SampleRandom
from benchmark.stages.fit import DETECTOR_FALSE_POSITIVES
from benchmark.stages.fitting import Fitting, learning_rate_factor, share_of
from benchmark.stages.training import collapse_warning, shares_warning
from benchmark.system import System
from benchmark.threat import Norm
from tests.core.cells import declared, fitted_of, loaded_of, plugin, small_config

RECIPE = Training(epochs=3, learning_rate=0.01, selection_attack=plugin("attack", "pgd", steps=3))


def _fit(config: RunConfig) -> tuple[System, Card]:
    return fitted_of(config)


def _weights(config: RunConfig) -> dict[str, Tensor]:
    return dict(_fit(config)[0].model.state_dict())


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def _adversarial(**settings: Any) -> Any:
    return plugin("defense", "adversarial_training", attack=plugin("attack", "pgd", steps=3), **settings)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    model = plugin("model", "mlp")
    configs = [small_config(tmp_path / str(i), model=model, training=RECIPE, seed=i // 2) for i in range(3)]
    one, again, other = (_weights(c) for c in configs)
    assert _same(one, again)
    assert not _same(one, other)


def test_a_system_is_trained_once_and_its_card_says_how(tmp_path: Path) -> None:
    config = small_config(tmp_path, training=RECIPE)
    _, card = _fit(config)
    stamp = (Store(tmp_path / "results").system(card.key) / "card.json").stat().st_mtime_ns
    _, again = _fit(config)
    assert again == card
    assert (Store(tmp_path / "results").system(card.key) / "card.json").stat().st_mtime_ns == stamp
    assert card.epochs_run == len(card.history) == 3
    assert card.train_examples == 1097
    assert card.test_correct / card.test_total > 0.8
    assert card.parameters == 64 * 10 + 10


@pytest.mark.parametrize("name", ["weights.safetensors", "card.json"])
def test_a_broken_system_is_set_aside_and_trained_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    config = small_config(tmp_path, training=RECIPE)
    _, card = _fit(config)
    folder = Store(tmp_path / "results").system(card.key)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-9] + b"\x01" * 9)
    _, again = _fit(config)
    assert again.weights_sha256 == card.weights_sha256
    assert (folder.parent / f".broken-{card.key}.0" / name).read_bytes() != whole
    said = {"weights.safetensors": "does not match its card", "card.json": "no readable card"}
    assert said[name] in capsys.readouterr().err


def test_a_card_with_another_digit_is_no_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small_config(tmp_path, training=RECIPE)
    _, card = _fit(config)
    path = Store(tmp_path / "results").system(card.key) / "card.json"
    text = path.read_text()
    assert f'"test_correct": {card.test_correct},' in text
    path.write_text(text.replace(f'"test_correct": {card.test_correct},', f'"test_correct": {card.test_correct - 1},'))
    assert Store(tmp_path / "results").card(card.key) is None
    _, again = _fit(config)
    assert again.test_correct == card.test_correct
    assert "no readable card" in capsys.readouterr().err


class _Killed(BaseException):
    pass


def test_training_that_was_interrupted_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.stages.fitting import Fitting

    recipe = dataclasses.replace(RECIPE, epochs=5, ema=0.9, optimizer=Optimizer.sgd)
    defenses = (_adversarial(),)
    whole = small_config(tmp_path / "whole", training=recipe, defenses=defenses)
    broken = small_config(tmp_path / "broken", training=recipe, defenses=defenses)
    expected, card = _fit(whole)
    real = Fitting.training_step

    def stop(self: Any, batch: Any, batch_idx: int) -> Tensor:
        if self.current_epoch == 3 and batch_idx == 4:
            raise _Killed
        return real(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "training_step", stop)
        with pytest.raises(PluginFault, match="_Killed"):
            _fit(broken)
    assert (Store(tmp_path / "broken" / "results").work(card.key) / "last.ckpt").is_file()
    epochs: list[int] = []

    def count(self: Any, batch: Any, batch_idx: int) -> Tensor:
        epochs.append(self.current_epoch)
        return real(self, batch, batch_idx)

    monkeypatch.setattr(Fitting, "training_step", count)
    found, again = _fit(broken)
    assert set(epochs) == {3, 4}
    assert _same(dict(expected.model.state_dict()), dict(found.model.state_dict()))
    assert again.weights_sha256 == card.weights_sha256
    assert again.history == card.history


def test_three_processes_train_what_one_trains(tmp_path: Path) -> None:
    one = small_config(tmp_path / "one", training=dataclasses.replace(RECIPE, batch_size=97))  # shares of 33, 32 and 32
    trainer = dataclasses.replace(one.trainer, devices=3, strategy="ddp_spawn")
    three = dataclasses.replace(small_config(tmp_path / "three", training=one.training), trainer=trainer)
    (alone, expected), (shared, card) = _fit(one), _fit(three)
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(shared.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    assert [h["train_loss"] for h in card.history] == pytest.approx([h["train_loss"] for h in expected.history], 1e-4)
    assert card.test_correct == expected.test_correct


def test_training_ends_with_an_error_if_a_process_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(self: Any, batch: Any, batch_idx: int) -> Tensor:
        if self.global_rank == 1:
            time.sleep(600)
        return real(self, batch, batch_idx)

    real, begun = Fitting.training_step, time.monotonic()
    soon = functools.partialmethod(DDPStrategy.__init__, timeout=timedelta(seconds=3))
    assert inspect.signature(DDPStrategy).parameters["timeout"].default == timedelta(minutes=30)
    config = small_config(tmp_path, training=RECIPE)
    config = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, devices=2, strategy="ddp_fork"))
    monkeypatch.setattr(Fitting, "training_step", hang)
    monkeypatch.setattr(DDPStrategy, "__init__", soon)
    result = run(config)
    assert result.status == "failed"
    assert "imed out" in str(result.error)
    assert time.monotonic() - begun < 300


def test_adversarial_training_without_adversaries_is_plain_training(tmp_path: Path) -> None:
    plain = small_config(tmp_path, training=RECIPE)
    mixed = dataclasses.replace(plain, defenses=(_adversarial(ratio=0.0),))
    assert plain.system_key() != mixed.system_key()
    loaded = loaded_of(plain)
    last = dataclasses.replace(RECIPE, epochs=1)  # one epoch, so that the choice between epochs plays no part
    one, _ = fitted_of(dataclasses.replace(plain, training=last), loaded)
    two, _ = fitted_of(dataclasses.replace(mixed, training=last), loaded)
    assert _same(dict(one.model.state_dict()), dict(two.model.state_dict()))


def test_adversarial_training_raises_robust_accuracy(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=12, learning_rate=0.005)
    model, attack = plugin("model", "small_cnn"), plugin("attack", "pgd", steps=20)
    plain = small_config(tmp_path, model=model, attack=attack, training=recipe)
    trained = dataclasses.replace(plain, defenses=(_adversarial(ratio=1.0),))
    before, after = (Store(tmp_path / "results").record(run(c).key) for c in (plain, trained))
    assert before is not None
    assert after is not None
    assert before.counts is not None
    assert after.counts is not None
    assert after.counts.robust_correct - before.counts.robust_correct > 50  # ten points of 500
    assert after.counts.clean_correct - before.counts.clean_correct > -25


def test_fine_tuning_starts_from_a_trained_system(tmp_path: Path) -> None:
    first = small_config(tmp_path, training=RECIPE)
    _, card = _fit(first)
    still = dataclasses.replace(RECIPE, epochs=0)
    tuned = dataclasses.replace(first, training=still, system=dataclasses.replace(first.system, init_from=card.key))
    assert _same(_weights(tuned), _weights(first))
    folder = str(Store(tmp_path / "results").system(card.key))
    moved = dataclasses.replace(tuned, system=dataclasses.replace(first.system, init_from=folder))
    assert _same(_weights(moved), _weights(first))
    lost = dataclasses.replace(tuned, system=dataclasses.replace(first.system, init_from="nowhere"))
    with pytest.raises(Exception, match="give the key of a trained system"):
        _fit(lost)


def test_the_moving_average_is_what_is_deployed(tmp_path: Path) -> None:
    averaged = small_config(tmp_path, training=dataclasses.replace(RECIPE, ema=0.5))
    assert not _same(_weights(averaged), _weights(small_config(tmp_path, training=RECIPE)))


def test_early_stopping_ends_training(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=40, patience=2, learning_rate=0.05)
    _, card = _fit(small_config(tmp_path, training=recipe))
    assert card.epochs_run < 40
    scores = [h["score"] for h in card.history]
    assert card.selected_epoch == max(range(len(scores)), key=lambda i: (scores[i], i))


def test_the_epoch_is_chosen_under_attack_if_training_was(tmp_path: Path) -> None:
    _, card = _fit(small_config(tmp_path, training=RECIPE, defenses=(_adversarial(),)))
    robust = [h["select_robust_accuracy"] for h in card.history]
    assert card.robust_selection == max(robust)
    assert all(h["select_robust_accuracy"] <= h["select_accuracy"] for h in card.history)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Schedule.constant, (1.0, 1.0, 1.0)),
        (Schedule.cosine, (1.0, 0.5, 0.0)),
        (Schedule.multistep, (1.0, 0.1, 0.01)),
        (Schedule.one_cycle, (0.0, 0.5 / 0.7, 0.0)),
    ],
)
def test_learning_rate_schedules(schedule: Schedule, values: tuple[float, ...]) -> None:
    assert [learning_rate_factor(schedule, p) for p in (0.0, 0.5, 1.0)] == pytest.approx(values, abs=1e-12)


def test_a_collapse_of_robust_accuracy_is_named() -> None:
    steady = [{"epoch": i, "select_robust_accuracy": 0.4 + 0.01 * i} for i in range(5)]
    assert collapse_warning(steady) is None
    sentence = collapse_warning([*steady, {"epoch": 5, "select_robust_accuracy": 0.01}])
    assert sentence is not None
    assert sentence.startswith("catastrophic overfitting: robust accuracy on the select split fell from 44.0% to 1.0%")


# --- the stages of a defense, each seen from the outside ---


@dataclasses.dataclass(frozen=True)
class EveryStage(Defense):
    """Halves the training set, doubles the logits, counts losses, freezes a weight, trains on, shifts, and refuses."""

    detects = True

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        return train.take(torch.arange(len(train) // 2))

    def build(self, model: nn.Module) -> nn.Module:  # type: ignore[override]  # as before there was a spec
        return nn.Sequential(model, _Scale())

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        return inner(model, batch) + 0.0 * sum(p.sum() for p in model.parameters())

    def after_step(self, model: nn.Module) -> None:
        next(model.parameters()).clamp_(-0.1, 0.1)

    def finish(self, model: nn.Module, train: Examples, fit: Any) -> None:
        fit(model, train, lambda m, batch: nn.functional.cross_entropy(m(batch.x), batch.y))
        next(model.parameters()).data.clamp_(-0.05, 0.05)

    def protect(self, model: nn.Module) -> nn.Module:
        return nn.Sequential(model, _Scale(3.0))

    def suspicion(self, model: nn.Module, x: Tensor) -> Tensor:
        return x.flatten(1).mean(1)


class _Scale(nn.Module):
    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def test_every_stage_of_a_defense_takes_part(tmp_path: Path) -> None:
    with declared(("defense", EveryStage)):
        config = small_config(tmp_path, defenses=(EveryStage(),), training=RECIPE)
        system, card = _fit(config)
        assert card.train_examples == 1097 // 2
        assert float(next(system.model.parameters()).abs().max()) <= 0.05 + 1e-9
        splits = loaded_of(config).splits
        x = splits.select.x()
        assert torch.allclose(system(x), 3.0 * system.model(x))
        refused = system.rejects(x, SampleRandom(0, splits.select.ids)).float().mean()
        assert float(refused) == pytest.approx(DETECTOR_FALSE_POSITIVES, abs=0.011)
        threshold, _ = card.thresholds["everystage"]
        assert threshold == pytest.approx(float(x.flatten(1).mean(1).quantile(0.95)), abs=0.02)
        cell = run(config)
        assert cell.status == "complete", cell.error
        assert config.threat.norm is Norm.linf


# --- what an architecture makes of the data ---


@dataclasses.dataclass(frozen=True)
class Seven(Model):
    """Seven scores, whatever the dataset."""

    wide: int = 64

    def build(self, spec: DataSpec) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(self.wide, 7))

    def pretrained(self, spec: DataSpec) -> dict[str, Tensor] | None:
        return None if self.wide == 64 else {}


@dataclasses.dataclass(frozen=True)
class Unusual(Model):
    """A linear model in a form that some users have."""

    form: str = "plain"

    def build(self, spec: DataSpec) -> nn.Module:
        linear = nn.Linear(64, 10)
        if self.form in ("weight_norm", "spectral_norm"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                linear = getattr(nn.utils, self.form)(linear)
        elif self.form == "lazy":
            linear = nn.LazyLinear(10)
        elif self.form == "normalized":
            return nn.Sequential(nn.Flatten(), linear, nn.BatchNorm1d(10))
        elif self.form == "none":
            return nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(10))
        model = nn.Sequential(nn.Flatten(), linear)
        if self.form == "scripted":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.jit.script(model)
        return _Answering(model, self.form) if self.form in ("tuple", "auxiliary", "dict") else model


class _Answering(nn.Module):
    def __init__(self, model: nn.Module, form: str) -> None:
        super().__init__()
        self.model, self.form = model, form

    def forward(self, x: Tensor) -> Any:
        scores = self.model(x)
        if self.form == "dict":
            return {"logits": scores}
        return (scores, x) if self.form == "tuple" or self.training else scores


@pytest.mark.parametrize("form", ["weight_norm", "spectral_norm", "lazy", "scripted"])
def test_modules_that_cannot_simply_be_copied_are_trained(form: str, tmp_path: Path) -> None:
    with declared(("model", Unusual)):
        cell = run(small_config(tmp_path, model=Unusual(form), training=Training(epochs=1, ema=0.5), examples=8))
    assert cell.status == "complete", cell.error


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("tuple", "answered 2 inputs with a tuple; expected a tensor of scores"),
        (
            "auxiliary",
            "model.unusual from test-plugins 1.0 returns a tuple in training mode; expected a tensor of",
        ),
        ("dict", "answered 2 inputs with a dict; expected a tensor of scores"),
        ("none", "model.unusual from test-plugins 1.0 has no parameters to train; choose training.epochs=0, or a"),
    ],
)
def test_a_model_that_cannot_be_trained_is_named(form: str, told: str, tmp_path: Path) -> None:
    with declared(("model", Unusual)):
        cell = run(small_config(tmp_path, model=Unusual(form)))
    assert cell.status != "complete"
    assert told in str(cell.error)
    assert "model.unusual" in str(cell.error)


# --- batches of one ---


def fitting_of(form: str, batch_size: int) -> Fitting:
    model = Unusual(form).build(DataSpec((1, 8, 8), 10))
    train = Examples.of(torch.arange(67), torch.rand(67, 1, 8, 8), torch.arange(67) % 10)
    recipe = Training(batch_size=batch_size)
    return Fitting(model, DataSpec((1, 8, 8), 10), train, None, recipe, (), None, 0, Path("unused"))


def test_a_batch_of_one_is_refused_where_the_layers_need_two() -> None:
    assert fitting_of("normalized", 64).fewest_rows() == 2
    assert fitting_of("plain", 1).fewest_rows() == 1
    told = "training.batch_size is 1 and the training split has 67 examples, so a batch has 1, and the model has batch"
    with pytest.raises(Refused, match=re.escape(told)):
        fitting_of("normalized", 1).fewest_rows()


@pytest.mark.parametrize(("rows", "processes", "fewest"), [(64, 3, 1), (64, 3, 2), (5, 4, 1), (3, 4, 1), (3, 2, 2)])
def test_the_shares_of_processes_have_the_gradient_of_the_whole_batch(rows: int, processes: int, fewest: int) -> None:
    batch = torch.randperm(rows)
    values = torch.rand(rows, dtype=torch.float64)
    shares = [share_of(batch, rank, processes, fewest) for rank in range(processes)]
    assert all(len(share) >= fewest for share, _ in shares)
    average = sum(float(values[share].mean()) * weight for share, weight in shares) / processes
    assert average == pytest.approx(float(values.mean()), abs=1e-12)


def test_layers_that_depend_on_the_share_of_a_process_are_told() -> None:
    normalized = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout())
    assert shares_warning(normalized, 1) is None
    assert shares_warning(nn.Linear(3, 3), 4) is None
    told = shares_warning(normalized, 4)
    assert told is not None
    assert told.startswith(
        "trained by 4 processes, and the model has batch normalisation and dropout, computed by each"
    )


def test_a_batch_size_of_one_trains(tmp_path: Path) -> None:
    small = Training(epochs=1, batch_size=1)
    _, card = _fit(small_config(tmp_path, dataset=plugin("dataset", "breast_cancer"), training=small))
    assert card.epochs_run == 1
    assert 0.0 < card.history[0]["train_loss"] < 1.0


@pytest.mark.parametrize(
    ("wide", "told"),
    [
        (64, "model.seven answers 2 examples of dataset.digits with the shape (2, 7); the dataset has 10 classes; exp"),
        (63, "model.seven cannot take the examples of dataset.digits, which have the shape (1, 8, 8): mat1 and mat2"),
    ],
)
def test_an_architecture_that_does_not_fit_the_data_is_named(wide: int, told: str, tmp_path: Path) -> None:
    with declared(("model", Seven)):
        cell = run(small_config(tmp_path, model=Seven(wide)))
        assert cell.status == "failed"
        assert told in str(cell.error)
    notes = Store(tmp_path / "results").unfinished()
    assert [note["kind"] for note in notes] == ["cell"]  # a training that failed was not interrupted
