"""Small configurations for tests of the pipeline, and attacks that the registry does not know."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmark import registry
from benchmark.config.cell import RunConfig
from benchmark.config.schema import StoreConfig, Training
from benchmark.hooks.observers import Observers
from benchmark.records.card import Card
from benchmark.records.store import Store
from benchmark.registry import Declared, installed
from benchmark.stages.fit import fit
from benchmark.stages.load import Loaded, load_data
from benchmark.stages.surrogate import named
from benchmark.system import System
from benchmark.threat import Threat, parse_eps


def plugin(kind: str, name: str, **settings: Any) -> Any:
    return registry.load(kind, name)(**settings)


def small_config(root: Path, **changes: Any) -> RunConfig:
    """A linear model on digits, one epoch, attacked by FGSM: a cell in a fraction of a second."""
    base = RunConfig(
        dataset=plugin("dataset", "digits"),
        model=plugin("model", "linear"),
        attack=plugin("attack", "fgsm"),
        threat=Threat(eps=parse_eps("1/10")),
        metrics=(plugin("metric", "robust_accuracy"),),
        training=Training(epochs=1, learning_rate=0.01, selection_attack=plugin("attack", "pgd", steps=3)),
        store=StoreConfig(root=str(root / "results"), data=str(root / "data"), offline=True),
    )
    return dataclasses.replace(base, **changes)


def loaded_of(config: RunConfig) -> Loaded:
    """The data of a configuration."""
    return load_data(config.dataset, config.store, config.examples)


def fitted_of(config: RunConfig, loaded: Loaded | None = None) -> tuple[System, Card]:
    """The fitted system of a configuration, from its store or trained now."""
    store, key = Store(Path(config.store.root)), config.system_key()
    data = loaded or loaded_of(config)
    return fit(config.system_spec, data, store, config.trainer, Observers(), key=key, data=Path(config.store.data))


def named_in(config: RunConfig, store: Store) -> RunConfig:
    """The configuration with the full keys of its surrogates."""
    needed = config.attack.supports.access
    return config.under(named(config.threat, config.system_spec, store, config.store, needed=needed))


@contextmanager
def declared(*classes: tuple[str, type[Any]]) -> Iterator[None]:
    """Make the registry believe that these (kind, class) pairs were installed by a distribution called test-plugins."""
    extra = tuple(Declared(kind, cls.__name__.lower(), cls.__module__, "test-plugins", "1.0") for kind, cls in classes)
    known = (*registry.declared(), *extra)
    real_load = installed._load

    def load(wanted: Declared) -> Any:
        return dict(zip(extra, (cls for _, cls in classes), strict=True)).get(wanted) or real_load(wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(installed, "declared", lambda: known)
        patch.setattr(installed, "_load", load)
        yield
