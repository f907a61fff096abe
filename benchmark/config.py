"""The configuration of a run, as one frozen object; where it comes from is :mod:`benchmark.hydra_app`.

:class:`RunSchema` is what Hydra composes and checks key by key; :func:`resolve` turns it into a :class:`RunConfig` of
plugins; :func:`check` says whether the parts fit, before anything is loaded.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import naming, registry
from benchmark.api import (
    Attack,
    Certifier,
    Dataset,
    Defense,
    Metric,
    Model,
    Poison,
    Tracker,
    inner,
)
from benchmark.errors import BenchmarkError, ConfigError, Refused
from benchmark.record import content_key
from benchmark.threat import Access, Goal, Norm, Region, RegionKind, Threat, parse_eps

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["Retry", "RunConfig", "RunSchema", "StoreConfig", "Trainer", "Training", "check", "resolve"]


class Retry(Enum):
    """Which recorded cells are computed again: none, or those that failed."""

    none = "none"
    failed = "failed"


class Optimizer(Enum):
    """SGD with momentum, or Adam."""

    sgd = "sgd"
    adam = "adam"


class Schedule(Enum):
    """The learning rate over the epochs.

    constant; cosine, to zero; multistep, divided by 10 after a half and three quarters of the epochs; one_cycle, up
    and down again (Smith & Topin, 2019).
    """

    constant = "constant"
    cosine = "cosine"
    multistep = "multistep"
    one_cycle = "one_cycle"


@dataclass(frozen=True)
class Training:
    """The recipe by which a system is trained; part of the system's identity.

    batch_size: over all devices together. learning_rate: at its highest. momentum: of SGD.
    ema: decay of the exponential moving average of the weights that is deployed instead of them; 0 is off.
    patience: epochs without improvement on the select split before training stops; 0 never stops early.
    selection_attack: with a defense that trains against a threat, the epoch is chosen by the accuracy of the select
    split under this attack and that threat; otherwise by its clean accuracy.
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
                "epochs and batches of at least 1"
            )
        if not 0.0 <= self.ema < 1.0:
            raise ConfigError(f"training.ema is {self.ema}; expected a decay in [0, 1), where 0 is off")
        if self.learning_rate <= 0:
            raise ConfigError(f"training.learning_rate is {self.learning_rate}; expected a positive number")


@dataclass(frozen=True)
class Trainer:
    """The machinery: what runs where. Only `precision` can change a result.

    accelerator, devices, nodes, strategy, precision: as in Lightning's Trainer. processes for evaluation: `devices`.
    """

    accelerator: str = "cpu"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"


@dataclass(frozen=True)
class StoreConfig:
    """Where things are kept: results under `root`, datasets under `data`; `offline` forbids downloads."""

    root: str = "results"
    data: str = "data"
    offline: bool = False


@dataclass(frozen=True)
class SystemConfig:
    """init_from: the key or folder of a trained system from whose weights training starts; empty is from scratch."""

    init_from: str = ""


@dataclass(frozen=True)
class SuiteConfig:
    """A citable protocol; empty name: none. Its matrix stands in the same file as `hydra.sweeper.params`."""

    name: str = ""
    version: int = 0
    description: str = ""


@dataclass
class RegionSchema:
    """See benchmark.threat.Region."""

    kind: RegionKind = RegionKind.full
    size: int = 0
    path: str = ""


@dataclass
class ThreatSchema:
    """See benchmark.threat.Threat; eps may be written 8/255, 0.1 or ${frac:8,255}, and surrogate may be a list."""

    norm: Norm = Norm.linf
    eps: str = "8/255"
    goal: Goal = Goal.untargeted
    access: Access = Access.gradients
    aware: bool = True
    region: RegionSchema = field(default_factory=RegionSchema)
    queries: int | None = None
    eot: int = 1
    surrogate: Any = ""
    levels: int | None = None


@dataclass
class RunSchema:
    """The keys of a run."""

    dataset: Any = None
    model: Any = None
    attack: Any = None
    threat: ThreatSchema = field(default_factory=ThreatSchema)
    defense: dict[str, Any] = field(default_factory=dict)
    poison: dict[str, Any] = field(default_factory=dict)
    certifier: dict[str, Any] = field(default_factory=dict)
    metric: dict[str, Any] = field(default_factory=dict)
    tracker: dict[str, Any] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    trainer: Trainer = field(default_factory=Trainer)
    store: StoreConfig = field(default_factory=StoreConfig)
    suite: SuiteConfig = field(default_factory=SuiteConfig)
    system: SystemConfig = field(default_factory=SystemConfig)
    seed: int = 0
    examples: int | None = None
    batch_size: int = 256
    retry: Retry = Retry.none


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
        from benchmark.record import file_sha256

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
        from benchmark.record import file_sha256

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


def resolve(cfg: DictConfig, *, official: bool = False, overrides: tuple[str, ...] = ()) -> RunConfig:
    """The composed configuration as one frozen object.

    Raises:
        ConfigError: in the words of the class whose value is wrong.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        schema: Any = {key: OmegaConf.to_object(cfg[key]) if OmegaConf.is_config(cfg[key]) else cfg[key] for key in cfg}
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    except BenchmarkError:
        raise
    except Exception as error:  # a plugin's __post_init__ that raises something else
        owner = registry.blamed(error) or "a setting"
        raise ConfigError(f"{owner} raised {type(error).__name__}: {error}") from error
    for kind in ("dataset", "model", "attack"):
        if schema[kind] is None:
            raise ConfigError(f"no {kind} is chosen; choose one of: {', '.join(registry.names(kind))}")
    return RunConfig(
        dataset=schema["dataset"],
        model=schema["model"],
        attack=schema["attack"],
        threat=_threat(schema["threat"]),
        defenses=tuple(schema["defense"].values()),
        poisons=tuple(schema["poison"].values()),
        certifiers=tuple(schema["certifier"].values()),
        metrics=tuple(schema["metric"].values()),
        trackers=tuple(schema["tracker"].values()),
        official=official,
        overrides=overrides,
        **{
            key: schema[key]
            for key in (
                "training",
                "trainer",
                "store",
                "suite",
                "system",
                "seed",
                "examples",
                "batch_size",
                "retry",
            )
        },
    )


def _threat(schema: ThreatSchema) -> Threat:
    values = {f.name: getattr(schema, f.name) for f in dataclasses.fields(schema)}
    region = Region(**{f.name: getattr(schema.region, f.name) for f in dataclasses.fields(schema.region)})
    held = schema.surrogate if isinstance(schema.surrogate, list) else [schema.surrogate]
    exact = {"eps": parse_eps(schema.eps), "region": region, "surrogate": ",".join(map(str, held))}
    return Threat(**{**values, **exact})


def check(config: RunConfig) -> None:
    """Whether the parts fit together.

    Raises:
        Refused: with what does not fit and what would.
    """
    attack, threat = registry.name_of(config.attack)[1], config.threat
    can = config.attack.supports
    norms = ", ".join(sorted(n.value for n in can.norms))
    if threat.norm not in can.norms:
        raise Refused(
            f"attack.{attack} perturbs under {norms or 'no norm'}, and threat.norm is {threat.norm.value}; choose a "
            f"threat of another norm (conf/threat/) or an attack that supports {threat.norm.value}"
        )
    if threat.targeted and not can.targeted:
        raise Refused(
            f"attack.{attack} is untargeted, and threat.goal is {threat.goal.value}; choose an attack that supports "
            "targets (benchmark plugins attack), or threat.goal=untargeted"
        )
    if not threat.access.grants(can.access):
        raise Refused(
            f"attack.{attack} needs {can.access.value}, and threat.access is {threat.access.value}; choose an attack "
            f"that is content with {threat.access.value}, or threat.access={can.access.value}"
        )
    _check_learner(config)
    for certifier in config.certifiers:
        if threat.norm not in certifier.supports.norms:
            raise Refused(
                f"certifier.{registry.name_of(certifier)[1]} certifies under "
                f"{', '.join(sorted(n.value for n in certifier.supports.norms))}, and threat.norm is "
                f"{threat.norm.value}; choose another certifier or norm"
            )


BY_GRADIENTS = ("build", "loss", "training_threat", "after_step", "finish")
"""The stages of a defense that change what is trained by gradients, or how."""


def _check_learner(config: RunConfig) -> None:
    """A model that is not trained by gradients takes no defense that changes such training, and no weights to start."""
    if not config.model.learns():
        return
    model = registry.name_of(config.model)[1]
    for defense in config.defenses:
        stages = [stage for stage in BY_GRADIENTS if getattr(type(defense), stage) is not getattr(Defense, stage)]
        if stages:
            raise Refused(
                f"model.{model} is not trained by gradients, and defense.{registry.name_of(defense)[1]} is about such "
                f"training (its {', '.join(stages)}); choose a defense that changes the data or acts at inference, or "
                "another model"
            )
    if config.system.init_from:
        raise Refused(f"model.{model} is not trained by gradients, so it cannot go on from system.init_from")
