"""From a card back to the parts that it describes: for verification and for transfer attacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark import registry
from benchmark.api import Component
from benchmark.config.schema import Training
from benchmark.config.system_spec import SystemSpec
from benchmark.data import DataSpec
from benchmark.errors import RecordError
from benchmark.records.record import Card, SystemInfo
from benchmark.records.store import Store
from benchmark.system import System

__all__ = ["component", "spec_of", "stored_system"]


def component(kind: str, described: dict[str, Any]) -> Any:
    """Make the plugin that a record describes by name and params.

    Raises:
        PluginError: if it is not installed. RecordError: if its parameters are not those of the installed version.
    """
    return _filled(registry.load(kind, described["name"]), described["params"], f"{kind}.{described['name']}")


def _filled(cls: type[Any], params: dict[str, Any], name: str) -> Any:
    """An instance of a frozen dataclass with these plain values, checked as on the command line."""
    from omegaconf import OmegaConf, SCMode, open_dict
    from omegaconf.errors import OmegaConfBaseException

    from benchmark.config.structured import inner_kinds, inner_lists, structured

    kinds, lists = inner_kinds(cls), inner_lists(cls)
    inner: dict[str, Any] = {field: component(kind, params[field]) for field, kind in kinds.items()}
    inner |= {field: tuple(component(kind, one) for one in params[field]) for field, kind in lists.items()}
    rest = {key: value for key, value in params.items() if key not in inner}
    node = structured(cls)
    with open_dict(node):
        for field in (*inner, *(["defaults"] if kinds else [])):
            del node[field]
    try:
        values = OmegaConf.to_container(OmegaConf.merge(node, rest), structured_config_mode=SCMode.DICT)
        assert isinstance(values, dict)
        made: Component = cls(**{str(k): v for k, v in values.items()}, **inner)
    except (OmegaConfBaseException, TypeError) as error:
        raise RecordError(
            f"the parameters of {name} in the record do not fit the installed version: {str(error).splitlines()[0]}"
        ) from error
    return made


def spec_of(info: SystemInfo, seed: int) -> SystemSpec:
    """The parts of the system that `info` describes."""
    config = info.config
    return SystemSpec(
        dataset=component("dataset", config["dataset"]),
        model=component("model", config["model"]),
        defenses=tuple(component("defense", d) for d in config["defenses"]),
        poisons=tuple(component("poison", p) for p in config["poison"]),
        training=_filled(Training, config["training"], "training"),
        precision=config["precision"],
        init_from=config["init_from"],
        seed=seed,
    )


def stored_system(parts: SystemSpec, card: Card, store: Store, spec: DataSpec) -> System:
    """Rebuild a trained system of the store from its card, with its own weights.

    Raises:
        RecordError: if the weights are not those that the card describes.
    """
    from benchmark.records.record import file_sha256
    from benchmark.stages.fit import WEIGHTS, assemble, build_model
    from benchmark.system.weights import load_weights

    path: Path = store.system(card.key) / WEIGHTS
    if not path.is_file() or file_sha256(path) != card.weights_sha256:
        raise RecordError(f"{path} is missing or is not the file that its card describes")
    model = build_model(parts, spec)
    load_weights(model, path)
    return assemble(parts, spec, model, card.thresholds)
