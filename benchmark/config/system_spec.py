"""The parts that a trained system is made of, and the key that follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import registry
from benchmark.api import Dataset, Defense, Model, Poison
from benchmark.config.schema import Training
from benchmark.records import naming
from benchmark.records.record import SystemInfo, content_key, file_sha256

__all__ = ["SystemSpec", "described"]


@dataclass(frozen=True)
class SystemSpec:
    """Everything that the weights and the behaviour of a system depend on.

    precision: of its training, as in Lightning. init_from: the weights that training starts from; "" is from scratch.
    """

    dataset: Dataset
    model: Model
    defenses: tuple[Defense, ...]
    poisons: tuple[Poison, ...]
    training: Training
    precision: str
    init_from: str
    seed: int

    def settings(self) -> dict[str, Any]:
        """Every setting as plain data."""
        return {
            "dataset": described(self.dataset),
            "model": described(self.model),
            "defenses": [described(d) for d in self.defenses],
            "poison": [described(p) for p in self.poisons],
            "training": registry.settings(self.training),
            "precision": self.precision,
            "init_from": self.init_from,
        }

    def key(self, data: Path) -> str:
        """The content address of the trained system; `data` is the folder of datasets."""
        return content_key({"system": self.settings(), "seed": self.seed, "data": self.revision(data)})

    def key_without_files(self) -> str:
        """The address of a system that is refused before any file is looked at."""
        return content_key({"system": self.settings(), "seed": self.seed})

    def revision(self, data: Path) -> str:
        """A digest of the dataset's content, and of the user's own files that dataset and model read."""
        files = {str(path): file_sha256(path) for path in self.input_files(data) if path.is_file()}
        return content_key({"dataset": self.dataset.revision(data), "files": files})

    def input_files(self, data: Path) -> tuple[Path, ...]:
        """The user's own files that dataset and model read."""
        return (*self.dataset.files(data), *self.model.files())

    @property
    def name(self) -> str:
        """dataset/model+defense+..., for people."""
        parts = [registry.name_of(part)[1] for part in (*self.defenses, *self.poisons)]
        return naming.system_name(registry.name_of(self.dataset)[1], registry.name_of(self.model)[1], parts)

    def fitted_on(self) -> dict[str, list[str]]:
        """Per detector, by its name: the attacks whose examples it was fitted on; none for clean examples alone."""
        return {
            registry.name_of(defense)[1]: [registry.name_of(attack)[1] for attack in defense.fitted_on()]
            for defense in self.defenses
            if defense.detects
        }

    def info(self, key: str) -> SystemInfo:
        """The system, as records and cards have it."""
        return SystemInfo(
            key=key,
            dataset=registry.name_of(self.dataset)[1],
            model=registry.name_of(self.model)[1],
            defenses=[registry.name_of(d)[1] for d in self.defenses],
            poison=[registry.name_of(p)[1] for p in self.poisons],
            config=self.settings(),
        )


def described(component: Any) -> dict[str, Any]:
    """Name, distribution, version and settings of a plugin: what a key depends on."""
    return {**registry.distribution_of(component), "params": registry.settings(component)}
