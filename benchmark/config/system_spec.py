"""Specification of a trained system, and its key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import registry
from benchmark.api import Dataset, Defense, Model, Poison
from benchmark.config.schema import Training
from benchmark.errors import DataError
from benchmark.records import naming
from benchmark.records.content import PREFIX, content_sha256
from benchmark.records.described import SystemInfo
from benchmark.records.document import canonical, content_key, system_key

__all__ = ["WEIGHTS", "SystemSpec", "described", "initial_weights"]

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class SystemSpec:
    """Everything that the weights and the behaviour of a system depend on.

    precision: of training, as in Lightning. init_from: the weights that training starts from; "" to train from scratch.
    """

    dataset: Dataset
    model: Model
    defenses: tuple[Defense, ...]
    poisons: tuple[Poison, ...]
    training: Training
    precision: str
    init_from: str
    seed: int
    telling: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """All settings as plain data, with the version of the training code; inputs by path."""
        return {
            "dataset": described(self.dataset),
            "model": described(self.model),
            "defenses": [described(d) for d in self.defenses],
            "poison": [described(p) for p in self.poisons],
            "training": registry.settings(self.training),
            "precision": self.precision,
            "init_from": self.init_from,
            "harness": registry.harness_version("system"),
        }

    def identity(self, data: Path, root: Path) -> dict[str, Any]:
        """Settings with each input identified by its content, `sha256:...`, instead of its path.

        Args:
            data: the folder of datasets. root: of the store, in which `init_from` may name a system.

        Raises:
            DataError: if a file is missing.
        """
        inputs = self.input_files(data)
        found: dict[str, Any] = _by_content(self.settings(), data, inputs)
        if self.init_from:
            found["init_from"] = PREFIX + content_sha256(initial_weights(self.init_from, root))
        text = canonical(found)
        beside = sorted(digest for path in inputs if (digest := PREFIX + content_sha256(path)) not in text)
        return {**found, **({"inputs": beside} if beside else {})}  # files that no setting names

    def key(self, data: Path, root: Path) -> str:
        """Content address of the trained system: see :meth:`identity`."""
        return system_key(self.identity(data, root), self.seed, self.dataset.revision(data))

    def key_without_files(self) -> str:
        """Key of a refused system, computed without reading any file."""
        return content_key({"system": self.settings(), "seed": self.seed})

    def input_files(self, data: Path) -> tuple[Path, ...]:
        """The user's own files and folders that dataset and model read."""
        return (*self.dataset.files(data), *self.model.files())

    def places(self, data: Path, root: Path) -> dict[str, str]:
        """Paths of the inputs that :meth:`identity` identifies by content, for provenance."""
        places = [*self.input_files(data), *([initial_weights(self.init_from, root)] if self.init_from else [])]
        return {PREFIX + content_sha256(path): str(path) for path in places}

    @property
    def name(self) -> str:
        """Display name, dataset/model+defense+..., and the overrides that tell it from others of its sweep."""
        parts = [
            *(naming.variant_name(registry.name_of(one)[1], registry.settings(one)) for one in self.defenses),
            *(registry.name_of(one)[1] for one in self.poisons),
        ]
        dataset, model = (
            naming.own_name(registry.name_of(one)[1], registry.settings(one)) for one in (self.dataset, self.model)
        )
        return naming.told(naming.system_name(dataset, model, parts), self.telling)

    def fitted_on(self) -> dict[str, list[str]]:
        """Attacks whose examples each detector was fitted on, by the detector's name; none for clean examples alone."""
        return {
            registry.name_of(defense)[1]: [registry.name_of(attack)[1] for attack in defense.fitted_on()]
            for defense in self.defenses
            if defense.detects
        }

    def info(self, key: str, identity: dict[str, Any] | None = None) -> SystemInfo:
        """System as described in records and cards.

        Args:
            identity: its settings with inputs by content; None for a refused system, whose inputs are given by path.
        """
        return SystemInfo(
            key=key,
            dataset=registry.name_of(self.dataset)[1],
            model=registry.name_of(self.model)[1],
            defenses=[registry.name_of(d)[1] for d in self.defenses],
            poison=[registry.name_of(p)[1] for p in self.poisons],
            config=self.settings() if identity is None else identity,
        )


def described(component: Any) -> dict[str, Any]:
    """Name, distribution, version and settings of a plugin, on which keys depend."""
    return {**registry.distribution_of(component), "params": registry.settings(component)}


def _by_content(value: Any, data: Path, inputs: tuple[Path, ...]) -> Any:
    """Settings with the path of each input replaced by its content; relative paths are also resolved below `data`.

    The name of a plugin is none, even where a folder of its data has that name.
    """
    if isinstance(value, dict) and "params" in value:
        return {**value, "params": _by_content(value["params"], data, inputs)}
    if isinstance(value, dict):
        return {name: _by_content(one, data, inputs) for name, one in value.items()}
    if isinstance(value, list):
        return [_by_content(one, data, inputs) for one in value]
    if not isinstance(value, str) or not value:
        return value
    return next((PREFIX + content_sha256(path) for path in inputs if path in (Path(value), data / value)), value)


def initial_weights(source: str, root: Path) -> Path:
    """Weights file of `system.init_from`: a file, a folder with one, or a system in the store at `root`.

    Raises:
        DataError: if there is none.
    """
    path = Path(source)
    if path.suffix != ".safetensors":
        path = (path if path.is_dir() else root / "systems" / source) / WEIGHTS
    if not path.is_file():
        raise DataError(
            f"system.init_from is {source!r}, and {path} does not exist; give the key of a trained "
            "system of this store (its folder under systems/) or the path of a folder or a .safetensors file"
        )
    return path
