"""Reconstruction of plugins and systems from records and cards, for verification and transfer attacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark import registry
from benchmark.api import Component, Dataset
from benchmark.config.schema import Training
from benchmark.config.system_spec import WEIGHTS, SystemSpec
from benchmark.data import DataSpec
from benchmark.errors import RecordError, Unproved
from benchmark.records.card import Card
from benchmark.records.content import PREFIX, content_sha256
from benchmark.records.described import SystemInfo
from benchmark.records.store import Store
from benchmark.system import System

__all__ = ["component", "dataset_of", "filled", "located", "spec_of", "stored_system"]


def component(kind: str, described: Mapping[str, Any]) -> Any:
    """Plugin described by name and params in a record.

    Raises:
        PluginError: if it is not installed. RecordError: if its parameters do not fit the installed version.
    """
    if not isinstance(described, Mapping) or not {"name", "params"} <= described.keys():
        raise RecordError(f"the record describes its {kind} as {described!r}; expected a name and params")
    if described["name"] == "given" and "given" not in registry.names(kind):
        raise Unproved(
            f"its {kind} was given in memory to benchmark.evaluate and is not in a file, so it cannot be rebuilt from "
            "the record; evaluate it again to compare"
        )
    return filled(registry.load(kind, described["name"]), described["params"], f"{kind}.{described['name']}")


def filled(cls: type[Any], params: dict[str, Any], name: str) -> Any:
    """Instance of a frozen dataclass with these plain values, checked as on the command line."""
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


def located(config: Any, places: Mapping[str, str]) -> Any:
    """Settings with the path of each input that is identified by content, if a file or folder there still has it.

    Args:
        places: from `sha256:...` to a path, as in provenance.
    """
    if isinstance(config, dict):
        return {name: located(value, places) for name, value in config.items()}
    if isinstance(config, list):
        return [located(value, places) for value in config]
    if not isinstance(config, str) or not config.startswith(PREFIX) or config not in places:
        return config
    path = Path(places[config])
    return str(path) if path.exists() and PREFIX + content_sha256(path) == config else config


def dataset_of(info: SystemInfo, places: Mapping[str, str]) -> Dataset:
    """Dataset described by a record.

    Raises:
        Unproved: if it reads a file that is no longer in its place.
    """
    described = located(info.config["dataset"], places)
    lost = [value for value in described["params"].values() if str(value).startswith(PREFIX)]
    if lost:
        where = places.get(lost[0], "no path in the record")
        raise Unproved(f"the data are {lost[0]}, which is not in {where}; name a file or folder with --input")
    made: Dataset = component("dataset", described)
    return made


def spec_of(info: SystemInfo, seed: int, places: Mapping[str, str] | None = None) -> SystemSpec:
    """Parts of the system that `info` describes.

    Args:
        places: of inputs that it identifies by content; missing ones keep that form.
    """
    config = located(info.config, places or {})
    return SystemSpec(
        dataset=component("dataset", config["dataset"]),
        model=component("model", config["model"]),
        defenses=tuple(component("defense", d) for d in config["defenses"]),
        poisons=tuple(component("poison", p) for p in config["poison"]),
        training=filled(Training, config["training"], "training"),
        precision=config["precision"],
        init_from=config["init_from"],
        seed=seed,
    )


def stored_system(parts: SystemSpec, card: Card, store: Store, spec: DataSpec) -> System:
    """Rebuild a trained system of the store from its card, with its own weights.

    Raises:
        RecordError: if the weights do not match the card.
    """
    from benchmark.records.durable import file_sha256
    from benchmark.stages.fit import assemble, build_model
    from benchmark.system.weights import load_weights

    path: Path = store.system(card.key) / WEIGHTS
    if not path.is_file() or file_sha256(path) != card.weights_sha256:
        raise RecordError(f"{path} is missing or does not match its card")
    model = build_model(parts, spec)
    load_weights(model, path)
    return assemble(parts, spec, model, card.thresholds)
