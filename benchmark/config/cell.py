"""Configuration of one cell as a frozen object, and the keys derived from it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark import registry
from benchmark.api import (
    Attack,
    Certifier,
    Component,
    Dataset,
    Defense,
    Metric,
    Model,
    Poison,
    Tracker,
)
from benchmark.config.describe import attack_info, threat_info
from benchmark.config.schema import CellLimits, Retry, StoreConfig, SuiteConfig, SystemConfig, Trainer, Training, Until
from benchmark.config.system_spec import SystemSpec, described, initial_weights
from benchmark.errors import ConfigError
from benchmark.records import naming
from benchmark.records.record import Record, cell_key
from benchmark.threat import Threat

__all__ = ["RunConfig"]


@dataclass(frozen=True)
class RunConfig:
    """Configuration of one cell.

    examples: number of test examples to attack, in order; None for all.
    batch_size: examples attacked at a time; never changes a result. overrides: as given by the user.
    telling: those that tell it from other cells of its sweep, where its name does not.
    until: examples that a sweep gives to each attack (:class:`.Until`); ignored by a single cell.
    survivors_of: keys of cells of the same system and threat; the attack skips the examples that they broke.
    """

    dataset: Dataset
    model: Model
    attack: Attack
    threat: Threat
    defenses: tuple[Defense, ...] = ()
    poisons: tuple[Poison, ...] = ()
    certifiers: tuple[Certifier, ...] = ()
    metrics: tuple[Metric, ...] = ()
    trackers: tuple[Tracker, ...] = ()
    training: Training = field(default_factory=Training)
    trainer: Trainer = field(default_factory=Trainer)
    store: StoreConfig = field(default_factory=StoreConfig)
    cell: CellLimits = field(default_factory=CellLimits)
    suite: SuiteConfig = field(default_factory=SuiteConfig)
    system: SystemConfig = field(default_factory=SystemConfig)
    seed: int = 0
    examples: int | None = None
    batch_size: int = 256
    retry: Retry = Retry.none
    until: Until = Until.none
    survivors_of: tuple[str, ...] = ()
    official: bool = False
    overrides: tuple[str, ...] = ()
    telling: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}; expected at least 1 example")
        if self.examples is not None and self.examples < 1:
            raise ConfigError(f"examples is {self.examples}; expected at least 1, or null for the whole test split")
        for part in dataclasses.fields(self):
            _check_finite(getattr(self, part.name), part.name)

    # --- identity ---

    @property
    def system_spec(self) -> SystemSpec:
        """Parts of the configuration that determine the system."""
        return SystemSpec(
            dataset=self.dataset,
            model=self.model,
            defenses=self.defenses,
            poisons=self.poisons,
            training=self.training,
            precision=self.trainer.precision,
            init_from=self.system.init_from,
            seed=self.seed,
            telling=tuple(word for word in self.telling if _is_of_system(word)),
        )

    @property
    def parts(self) -> tuple[Component, ...]:
        """Plugins that take part in the cell, without observers."""
        one = (self.dataset, self.model, self.attack)
        return (*one, *self.defenses, *self.poisons, *self.certifiers, *self.metrics)

    def under(self, threat: Threat) -> RunConfig:
        """Copy under another threat."""
        return self if threat is self.threat else dataclasses.replace(self, threat=threat)

    def system_key(self) -> str:
        """Content address of the trained system."""
        return self.system_spec.key(*self._roots)

    @property
    def _roots(self) -> tuple[Path, Path]:
        """Folders of the datasets and of the store."""
        return Path(self.store.data), Path(self.store.root)

    def skeleton(self, *, refused: bool = False) -> Record:
        """Record of the cell before anything is computed: everything that its key depends on, with an empty key.

        Args:
            refused: compute the key without reading any file.
        """
        parts = self.system_spec
        if refused:
            system = parts.info(parts.key_without_files())
        else:
            system = parts.info(self.system_key(), parts.identity(*self._roots))
        (task,) = self.dataset.tasks
        return Record(
            key="",
            task=task,
            status="refused",
            suite=self.suite_name,
            official=self.official,
            seed=self.seed,
            harness=registry.harness_version("cell"),
            system=system,
            threat=threat_info(self.threat, by_content=not refused),
            attack=attack_info(self.attack),
            fitted_on=parts.fitted_on(),
            certifiers=[described(c) for c in self.certifiers],
            measured_by=[described(m) for m in self.metrics],
            examples=self.examples,
            survivors_of=list(self.survivors_of),
        )

    def cell_key(self, *, refused: bool = False) -> str:
        """Content address of the cell; that of a refused cell is computed without reading any file."""
        return cell_key(self.skeleton(refused=refused))

    def input_files(self) -> tuple[Path, ...]:
        """The user's own files that the result depends on."""
        files = [*self.system_spec.input_files(Path(self.store.data))]
        if self.threat.region.path:
            files.append(Path(self.threat.region.path))
        if self.system.init_from:
            files.append(initial_weights(self.system.init_from, Path(self.store.root)))
        return tuple(files)

    def places(self) -> dict[str, str]:
        """Paths of the inputs that the record identifies by content."""
        return self.system_spec.places(*self._roots)

    def threat_settings(self) -> dict[str, Any]:
        """Threat as plain data, with exact eps."""
        settings = {**registry.settings(self.threat), "eps": str(self.threat.eps)}
        del settings["masks"], settings["table"]
        return settings

    @property
    def suite_name(self) -> str | None:
        """name@version, or None outside a suite."""
        return f"{self.suite.name}@{self.suite.version}" if self.suite.name else None

    @property
    def name(self) -> str:
        """Display name of the cell, such as `digits/linear pgd linf 1/10 seed 0 [attack=pgd_10]`."""
        attack = naming.variant_name(registry.name_of(self.attack)[1], registry.settings(self.attack))
        name = naming.cell_name(self.system_spec.name, attack, threat_info(self.threat).name, self.seed)
        return naming.told(name, [word for word in self.telling if not _is_of_system(word)])

    def plain(self) -> dict[str, Any]:
        """All settings as plain data."""
        return {
            **self.system_spec.settings(),
            "attack": described(self.attack),
            "threat": self.threat_settings(),
            "certifiers": [described(c) for c in self.certifiers],
            "metrics": [described(m) for m in self.metrics],
            "seed": self.seed,
            "examples": self.examples,
            "survivors_of": list(self.survivors_of),
            "batch_size": self.batch_size,
            "trainer": registry.settings(self.trainer),
            "suite": self.suite_name,
        }


def _is_of_system(override: str) -> bool:
    """True for an override on which the trained system depends."""
    parts = ("dataset", "model", "defense", "poison", "training", "system")
    return override.lstrip("+").partition("=")[0].partition(".")[0] in parts


def _check_finite(value: Any, name: str) -> None:
    """Raise ConfigError for a NaN or infinite setting, which has no key and which no attack expects."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} is {value}; expected a finite number")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for part in dataclasses.fields(value):
            _check_finite(getattr(value, part.name), f"{name}.{part.name}")
    elif isinstance(value, dict):
        for key, one in value.items():
            _check_finite(one, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for one in value:
            _check_finite(one, name)
