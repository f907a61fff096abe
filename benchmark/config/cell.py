"""The configuration of one cell, as one frozen object, and the keys that follow from it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark import registry
from benchmark.api import (
    Attack,
    Certifier,
    Dataset,
    Defense,
    Metric,
    Model,
    Poison,
    Tracker,
)
from benchmark.config.describe import threat_info
from benchmark.config.schema import Retry, StoreConfig, SuiteConfig, SystemConfig, Trainer, Training
from benchmark.config.system_spec import SystemSpec, described
from benchmark.errors import ConfigError
from benchmark.records import naming
from benchmark.records.record import content_key, file_sha256
from benchmark.threat import Threat

__all__ = ["RunConfig"]


@dataclass(frozen=True)
class RunConfig:
    """One cell's configuration. examples: how many of the test split's first examples are attacked; None is all.

    batch_size: examples attacked at a time; never changes a result. overrides: what the user passed.
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
    suite: SuiteConfig = field(default_factory=SuiteConfig)
    system: SystemConfig = field(default_factory=SystemConfig)
    seed: int = 0
    examples: int | None = None
    batch_size: int = 256
    retry: Retry = Retry.none
    official: bool = False
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}; expected at least 1 example")
        if self.examples is not None and self.examples < 1:
            raise ConfigError(f"examples is {self.examples}; expected at least 1, or null for the whole test split")

    # --- identity ---

    @property
    def system_spec(self) -> SystemSpec:
        """The parts of the configuration that make the system."""
        return SystemSpec(
            dataset=self.dataset,
            model=self.model,
            defenses=self.defenses,
            poisons=self.poisons,
            training=self.training,
            precision=self.trainer.precision,
            init_from=self.system.init_from,
            seed=self.seed,
        )

    def under(self, threat: Threat) -> RunConfig:
        """The same configuration under another threat."""
        return self if threat is self.threat else dataclasses.replace(self, threat=threat)

    def system_key(self) -> str:
        """The content address of the trained system."""
        return self.system_spec.key(Path(self.store.data))

    def cell_key(self, *, refused: bool = False) -> str:
        """The content address of the cell; a refused one is named without looking at any file."""
        path = Path(self.threat.region.path)
        return content_key(
            {
                **({"mask": file_sha256(path)} if path.is_file() and not refused else {}),
                "system": self.system_spec.settings() if refused else self.system_key(),
                "attack": described(self.attack),
                "threat": self.threat_settings(),
                "metrics": [described(m) for m in self.metrics],
                "certifiers": [described(c) for c in self.certifiers],
                "examples": self.examples,
                "seed": self.seed,
                "suite": self.suite_name,
                "official": self.official,
            }
        )

    def input_files(self) -> tuple[Path, ...]:
        """Files of the user's own that the result depends on."""
        files = [*self.system_spec.input_files(Path(self.store.data))]
        if self.threat.region.path:
            files.append(Path(self.threat.region.path))
        return tuple(files)

    def threat_settings(self) -> dict[str, Any]:
        """The threat as plain data, eps exact."""
        settings = {**registry.settings(self.threat), "eps": str(self.threat.eps)}
        del settings["masks"]
        return settings

    @property
    def suite_name(self) -> str | None:
        """name@version, or None outside a suite."""
        return f"{self.suite.name}@{self.suite.version}" if self.suite.name else None

    @property
    def name(self) -> str:
        """The cell, for people."""
        attack = registry.name_of(self.attack)[1]
        return naming.cell_name(self.system_spec.name, attack, threat_info(self.threat).name, self.seed)

    def plain(self) -> dict[str, Any]:
        """Every setting as plain data."""
        return {
            **self.system_spec.settings(),
            "attack": described(self.attack),
            "threat": self.threat_settings(),
            "certifiers": [described(c) for c in self.certifiers],
            "metrics": [described(m) for m in self.metrics],
            "seed": self.seed,
            "examples": self.examples,
            "batch_size": self.batch_size,
            "trainer": registry.settings(self.trainer),
            "suite": self.suite_name,
        }
