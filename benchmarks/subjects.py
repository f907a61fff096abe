"""The subjects of measurements: systems that the harness trained, and batches of their test examples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmark.config.cell import RunConfig
from benchmark.config.resolve import resolve
from benchmark.hooks.observers import Observers
from benchmark.records.store import Store
from benchmark.sampling import SampleRandom, derive_seed
from benchmark.stages.devices import device_of
from benchmark.stages.fit import fit
from benchmark.stages.load import load_data
from benchmark.sweep import app
from benchmark.system import System
from benchmark.system.target import Target

__all__ = ["RESNET", "STD_AND_ADV", "Batch", "Subject", "configured", "subject"]

STD_AND_ADV = {"std": "defense=[]", "adv": "defense=[adversarial_training]"}
"""The two systems of most tables: undefended, and adversarially trained (linf 1/10)."""

RESNET = ("dataset=synthetic", "dataset.shape=[3,32,32]", "dataset.test=16", "model=resnet", "training.epochs=0")
"""A ResNet-18 with random weights, for what depends on the size of a network alone."""


@dataclass(frozen=True)
class Batch:
    """Examples on a device. x: (B, *S) in [0, 1]. y, ids: (B,) int64."""

    x: Tensor
    y: Tensor
    ids: Tensor

    @property
    def rng(self) -> SampleRandom:
        """The randomness of an attack on these examples."""
        return SampleRandom(derive_seed(0, "cell"), self.ids)


@dataclass(frozen=True)
class Subject:
    """A trained system and the configuration that it came from."""

    config: RunConfig
    system: System
    batch: Batch

    def first(self, count: int, *, correct: bool = False) -> Batch:
        """The first `count` examples, or the first that the system gets right."""
        rows = torch.arange(len(self.batch.y), device=self.batch.y.device)
        if correct:
            rows = rows[self.system.logits(self.batch.x, self.batch.rng).argmax(1) == self.batch.y]
        rows = rows[:count]
        return Batch(self.batch.x[rows], self.batch.y[rows], self.batch.ids[rows])

    def target(self, batch: Batch) -> Target:
        """A fresh view of the system for an attack on `batch`."""
        return Target(self.system, rng=batch.rng.child("system"), classes=self.system.spec.classes)


def configured(store: Path, *overrides: str) -> RunConfig:
    """The configuration that `benchmark run` would compose from these overrides, without trackers."""
    from hydra import compose, initialize_config_module

    app.register()
    with initialize_config_module("benchmark.conf", version_base="1.3"):
        return resolve(compose("run", [f"store.root={store}", "tracker=[]", *overrides]))


def subject(store: Path, device: str, *overrides: str) -> Subject:
    """The system of a configuration: from the store, or trained now; with all its test examples on the device."""
    config = configured(store, *overrides)
    loaded = load_data(config.dataset, config.store, config.examples)
    key = config.system_key()
    system, _ = fit(
        config.system_spec, loaded, Store(store), config.trainer, Observers(()), key=key, data=Path(config.store.data)
    )
    config = replace(config, trainer=replace(config.trainer, accelerator=device))
    place, examples = device_of(config.trainer), loaded.attacked
    everything = torch.arange(len(examples))
    batch = Batch(examples.x(everything).to(place), examples.y.to(place), examples.ids.to(place))
    return Subject(config, system.to(place), batch)
