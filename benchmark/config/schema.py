"""Configuration schema of a run; :mod:`benchmark.sweep.app` composes it.

:class:`RunSchema` is what Hydra composes and checks key by key; :func:`resolve` turns it into a :class:`RunConfig` of
plugins; :func:`check` says whether the parts fit, before anything is loaded.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, get_type_hints

from benchmark.api import (
    Attack,
    inner,
)
from benchmark.errors import ConfigError
from benchmark.records.remote import lockable
from benchmark.registry import KINDS, LISTS
from benchmark.threat import Region, Threat

__all__ = ["RegionSchema", "Retry", "RunSchema", "StoreConfig", "ThreatSchema", "Trainer", "Training", "Until"]


class Retry(Enum):
    """Recorded cells to compute again: none, or the failed ones."""

    none = "none"
    failed = "failed"


class Until(Enum):
    """Examples that each attack of a sweep gets: all correct ones, or those that no cheaper attack broke."""

    none = "none"
    broken = "broken"


class Optimizer(Enum):
    """SGD with momentum, or Adam."""

    sgd = "sgd"
    adam = "adam"


class Schedule(Enum):
    """Learning rate schedule over the epochs.

    constant; cosine, to zero; multistep, divided by 10 after a half and three quarters of the epochs; one_cycle, up
    and down again (Smith & Topin, 2019).
    """

    constant = "constant"
    cosine = "cosine"
    multistep = "multistep"
    one_cycle = "one_cycle"


@dataclass(frozen=True)
class Training:
    """Training recipe of a system; part of the system's identity.

    batch_size: over all devices together. learning_rate: peak value. momentum: of SGD.
    ema: decay of an exponential moving average of the weights, which is deployed instead of the last weights; 0 is off.
    patience: epochs without improvement on the select split before training stops; 0 never stops early.
    selection_attack: if a defense declares a training threat, the epoch is selected by the select split's accuracy
    under this attack and that threat; otherwise by its clean accuracy.
    """

    epochs: int = 20
    batch_size: int = 64
    optimizer: Optimizer = Optimizer.adam
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule = Schedule.cosine
    ema: float = 0.0
    patience: int = 0
    selection_attack: Attack = inner("pgd_10")

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch_size < 1:
            raise ConfigError(
                f"training.epochs is {self.epochs} and training.batch_size is {self.batch_size}; expected at least 0 "
                "epochs and a batch size of at least 1"
            )
        if not 0.0 <= self.ema < 1.0:
            raise ConfigError(f"training.ema is {self.ema}; expected a decay in [0, 1), where 0 is off")
        if self.learning_rate <= 0:
            raise ConfigError(f"training.learning_rate is {self.learning_rate}; expected a positive number")


PRECISIONS = ("32-true", "64-true", "bf16-mixed", "16-mixed")
"""Supported training precisions."""


@dataclass(frozen=True)
class Trainer:
    """Hardware and precision. Only `precision` can change a result.

    accelerator, devices, nodes, strategy, precision: as in Lightning's Trainer. `devices` is also the number of
    processes of an evaluation.
    Systems are trained in this precision and evaluated in float32; 16-true, with 16-bit weights alone, is not
    supported.
    """

    accelerator: str = "cpu"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"

    def __post_init__(self) -> None:
        for name in ("devices", "nodes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"trainer.{name} is {getattr(self, name)}; expected at least 1")
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"trainer.precision is {self.precision!r}; expected one of {', '.join(PRECISIONS)}: systems are "
                "trained with at least float32 weights, and evaluated in float32"
            )
        if self.precision == "16-mixed" and self.accelerator == "cpu":
            raise ConfigError(
                "trainer.precision is 16-mixed, and trainer.accelerator is cpu, which would train in bfloat16; "
                "choose trainer.precision=bf16-mixed, or trainer=gpu"
            )


@dataclass(frozen=True)
class StoreConfig:
    """Folders: results under `root`, datasets under `data`; `offline` forbids downloads."""

    root: str = "results"
    data: str = "data"
    offline: bool = False

    def __post_init__(self) -> None:
        lockable(self.root)


UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
"""Units of memory, in bytes."""


@dataclass(frozen=True)
class CellLimits:
    """Resource limits of a cell, which protect other cells; none changes a result, and all need Linux.

    process: run each cell in its own process. timeout: seconds per cell, 0 for no limit.
    memory: most resident memory, such as 4GB; empty for no limit. Either limit implies `process`.
    """

    process: bool = False
    timeout: float = 0.0
    memory: str = ""

    def __post_init__(self) -> None:
        if self.timeout < 0:
            raise ConfigError(f"cell.timeout is {self.timeout}; expected seconds, or 0 for no limit")
        self.bytes  # noqa: B018 - read to be checked
        if self.alone and sys.platform != "linux":
            raise ConfigError("cell.process, cell.timeout and cell.memory need Linux; leave them out here")

    @property
    def bytes(self) -> int:
        """Memory limit in bytes; 0 for none."""
        if not self.memory:
            return 0
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", self.memory.strip())
        if match is None or match[2].lower() not in UNITS:
            raise ConfigError(f"cell.memory is {self.memory!r}; expected a number with a unit, such as 4GB or 512MiB")
        return int(float(match[1]) * UNITS[match[2].lower()])

    @property
    def alone(self) -> bool:
        """True if a cell runs in its own process."""
        return self.process or self.timeout > 0 or bool(self.memory)


@dataclass(frozen=True)
class SystemConfig:
    """init_from: key or folder of a trained system whose weights training starts from; empty to train from scratch."""

    init_from: str = ""


@dataclass(frozen=True)
class SuiteConfig:
    """A citable protocol; an empty name for none. Its matrix is in the same file, as `hydra.sweeper.params`."""

    name: str = ""
    version: int = 0
    description: str = ""


def _schema_of(cls: type[Any], replaced: dict[str, tuple[Any, Any]]) -> Any:
    """Writable dataclass with the fields of a frozen one.

    Args:
        replaced: fields with other types, name -> (type, default).
    """
    hints = get_type_hints(cls, localns={"Masks": Any, "TableRegion": Any})
    fields: list[Any] = []
    for own in dataclasses.fields(cls):
        if own.repr:  # what the core fills in is no configuration
            kind, default = replaced.get(own.name, (hints[own.name], own.default))
            fields.append((own.name, kind, default))
    return dataclasses.make_dataclass(f"{cls.__name__}Schema", fields, namespace={"__module__": __name__})


RegionSchema = _schema_of(Region, {})
"""The fields of :class:`benchmark.threat.Region`, for Hydra."""

ThreatSchema = _schema_of(
    Threat,
    {
        "eps": (str, "8/255"),
        "region": (RegionSchema, field(default_factory=RegionSchema)),
        "surrogate": (Any, ""),
    },
)
"""The fields of :class:`benchmark.threat.Threat`, for Hydra; eps may be written 8/255, 0.1 or ${frac:8,255}."""


RunSchema: Any = dataclasses.make_dataclass(
    "RunSchema",
    [
        *((kind, Any, None) for kind in KINDS if kind not in LISTS),
        ("threat", Any, field(default_factory=ThreatSchema)),
        *((kind, dict[str, Any], field(default_factory=dict)) for kind in KINDS if kind in LISTS),
        ("training", Training, field(default_factory=Training)),
        ("trainer", Trainer, field(default_factory=Trainer)),
        ("store", StoreConfig, field(default_factory=StoreConfig)),
        ("cell", CellLimits, field(default_factory=CellLimits)),
        ("suite", SuiteConfig, field(default_factory=SuiteConfig)),
        ("system", SystemConfig, field(default_factory=SystemConfig)),
        ("seed", int, 0),
        ("examples", int | None, None),
        ("batch_size", int, 256),
        ("retry", Retry, Retry.none),
        ("until", Until, Until.none),
        ("survivors_of", list[str], field(default_factory=list)),
    ],
    namespace={"__module__": __name__},
)
"""Keys of a run: one for each kind of plugin, and the settings of the run."""
