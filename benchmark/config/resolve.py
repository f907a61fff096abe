"""Conversion of Hydra's composed configuration into the configuration of a cell."""

from __future__ import annotations

import dataclasses
from itertools import chain
from typing import TYPE_CHECKING, Any

from benchmark import registry
from benchmark.config.cell import RunConfig
from benchmark.config.members import own_folders, with_members
from benchmark.config.schema import RunSchema
from benchmark.errors import BenchmarkError, ConfigError, message_of
from benchmark.threat import Region, Threat, parse_eps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from omegaconf import DictConfig

__all__ = ["resolve"]


def resolve(
    cfg: DictConfig, *, official: bool = False, overrides: tuple[str, ...] = (), own: Sequence[Path] | None = None
) -> RunConfig:
    """Convert the composed configuration to a frozen object.

    Args:
        own: folders of the user's configurations; None for those of the running Hydra job.

    Raises:
        ConfigError: from the class that rejects a value, in its words.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from benchmark.config.overrides import refuse_unknown

    refuse_unknown(cfg, [f.name for f in dataclasses.fields(RunSchema)])
    try:
        for key in cfg:
            with_members(cfg[key], str(key), own_folders() if own is None else own)
        schema: Any = {key: OmegaConf.to_object(cfg[key]) if OmegaConf.is_config(cfg[key]) else cfg[key] for key in cfg}
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    except BenchmarkError:
        raise
    except Exception as error:  # a plugin's __post_init__ that raises something else
        owner = registry.blamed(error) or "a setting"
        raise ConfigError(f"{owner} raised {type(error).__name__}: {message_of(error)}") from error
    for kind in registry.KINDS:
        if kind not in registry.LISTS and schema[kind] is None:
            raise ConfigError(f"no {kind} is chosen; choose one of: {', '.join(registry.names(kind))}")
    lists: dict[str, Any] = {f"{kind}s": tuple(schema[kind].values()) for kind in registry.LISTS}
    for chosen in (*(schema[kind] for kind in registry.KINDS if kind not in registry.LISTS), *chain(*lists.values())):
        registry.find(*registry.name_of(chosen))  # declared by two, it is refused to who asks for it
    rest = {key: value for key, value in schema.items() if key not in (*registry.LISTS, "threat")}
    rest["survivors_of"] = tuple(rest["survivors_of"])
    return RunConfig(threat=_threat(schema["threat"]), official=official, overrides=overrides, **lists, **rest)


def _threat(schema: Any) -> Threat:
    values = {f.name: getattr(schema, f.name) for f in dataclasses.fields(schema)}
    region = Region(**{f.name: getattr(schema.region, f.name) for f in dataclasses.fields(schema.region)})
    held = schema.surrogate if isinstance(schema.surrogate, list) else [schema.surrogate]
    exact = {"eps": parse_eps(schema.eps), "region": region, "surrogate": ",".join(map(str, held))}
    return Threat(**{**values, **exact})
