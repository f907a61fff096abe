"""The configuration of one cell, as one frozen object, and the keys that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from benchmark.config.schema import Retry, StoreConfig, SuiteConfig, SystemConfig, Trainer, Training
from benchmark.errors import ConfigError
from benchmark.records import naming
from benchmark.records.record import content_key
from benchmark.threat import Threat

if TYPE_CHECKING:
    pass

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

    def system_settings(self) -> dict[str, Any]:
        """Everything that the trained system depends on, as plain data."""
        return {
            "dataset": _described(self.dataset),
            "model": _described(self.model),
            "defenses": [_described(d) for d in self.defenses],
            "poison": [_described(p) for p in self.poisons],
            "training": registry.settings(self.training),
            "precision": self.trainer.precision,
            "init_from": self.system.init_from,
        }

    def system_key(self) -> str:
        """The content address of the trained system."""
        return content_key({"system": self.system_settings(), "seed": self.seed, "data": self.revision()})

    def cell_key(self, *, refused: bool = False) -> str:
        """The content address of the cell; a refused one is named without looking at any file."""
        from benchmark.records.record import file_sha256

        path = Path(self.threat.region.path)
        return content_key(
            {
                **({"mask": file_sha256(path)} if path.is_file() and not refused else {}),
                "system": self.system_settings() if refused else self.system_key(),
                "attack": _described(self.attack),
                "threat": self.threat_settings(),
                "metrics": [_described(m) for m in self.metrics],
                "certifiers": [_described(c) for c in self.certifiers],
                "examples": self.examples,
                "seed": self.seed,
                "suite": self.suite_name,
                "official": self.official,
            }
        )

    def revision(self) -> str:
        """What identifies the content of the dataset, and of the files of the user that dataset and model read."""
        from benchmark.records.record import file_sha256

        read = (*self.dataset.files(Path(self.store.data)), *self.model.files())
        files = {str(p): file_sha256(p) for p in read if p.is_file()}
        return content_key({"dataset": self.dataset.revision(Path(self.store.data)), "files": files})

    def input_files(self) -> tuple[Path, ...]:
        """Files of the user's own that the result depends on."""
        files = [*self.dataset.files(Path(self.store.data)), *self.model.files()]
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
    def system_name(self) -> str:
        """dataset/model+defense+..., for people."""
        parts = [registry.name_of(part)[1] for part in (*self.defenses, *self.poisons)]
        return naming.system_name(registry.name_of(self.dataset)[1], registry.name_of(self.model)[1], parts)

    @property
    def name(self) -> str:
        """The cell, for people."""
        threat = self.threat
        allowed = naming.threat_name(
            threat.norm.value, str(threat.eps), aware=threat.aware, goal=threat.goal.value, region=str(threat.region),
            queries=threat.queries, levels=threat.levels, surrogate=threat.surrogate,
        )  # fmt: skip
        return naming.cell_name(self.system_name, registry.name_of(self.attack)[1], allowed, self.seed)

    def plain(self) -> dict[str, Any]:
        """Every setting as plain data."""
        return {
            **self.system_settings(),
            "attack": _described(self.attack),
            "threat": self.threat_settings(),
            "certifiers": [_described(c) for c in self.certifiers],
            "metrics": [_described(m) for m in self.metrics],
            "seed": self.seed,
            "examples": self.examples,
            "batch_size": self.batch_size,
            "trainer": registry.settings(self.trainer),
            "suite": self.suite_name,
        }


def _described(component: Any) -> dict[str, Any]:
    """Name, distribution, version and settings of a plugin: what a key depends on."""
    return {**registry.distribution_of(component), "params": registry.settings(component)}
