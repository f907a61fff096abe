"""The contracts of plugins: one abstract class per kind, its declarations, and the data that travels between stages.

A plugin is a frozen dataclass (its fields are its configuration, and the Hydra schema) plus pure functions of tensors:
no I/O (datasets and trackers aside), no global randomness, no choice of device. Names mean the same everywhere:

==============  =====================================================================================
x, x_adv        (B, *S) float32 in [0, 1]: inputs, and what an attack proposes in their place
y               (B,) int64: true labels, or target labels under a targeted threat; (B, S) or (B, S, n) where an example
                has several sites, as in segmentation and detection
logits          (B, K) float32: scores before the softmax; (B, S, ...) for several sites
eps, step_size  in units of the [0, 1] input range
steps           iterations of a method; restarts: number of independent starts
rng             :class:`benchmark.sampling.SampleRandom`: the only source of randomness
==============  =====================================================================================
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from benchmark import hookimpl

if TYPE_CHECKING:  # each is looked up when it is asked for: reading names and configurations costs no import
    from benchmark.api.attack import Attack, PreparedAttack, Supports
    from benchmark.api.certifier import Certifier
    from benchmark.api.component import API_VERSION, EVERY_TASK, Component, added, inner, inner_list
    from benchmark.api.dataset import Dataset
    from benchmark.api.defense import Averaging, Defense, Loss
    from benchmark.api.metric import Measurement, Metric
    from benchmark.api.model import Model
    from benchmark.api.poison import InstancePoison, Poison
    from benchmark.api.tracker import Tracker
    from benchmark.data import Batch, DataSpec, Examples, FeatureRules, Splits
    from benchmark.errors import AttackFault, ConfigError, DataError, MissingPackage, Refused
    from benchmark.records.outcomes import NORMS, Outcomes
    from benchmark.sampling import SampleRandom, ambient, derive_seed, using
    from benchmark.system import PASS_ROWS, System, clipped, padded, padded_random, straight_through
    from benchmark.system.adapted import Adapted, AnswerKind, AnswerRule, InputRule
    from benchmark.system.ledger import occurrence
    from benchmark.system.networks import features, features_of, train_network
    from benchmark.system.references import OWNED
    from benchmark.system.target import RowLoss, Target
    from benchmark.tasks.detection import Detection
    from benchmark.tasks.segmentation import Segmentation
    from benchmark.tasks.task import Classification, DenseTask, Task
    from benchmark.threat import Access, Goal, Norm, Region, RegionKind, Threat, parse_eps
    from benchmark.threat.ball import Ball, distance, rows_norm

__all__ = [
    "API_VERSION",
    "EVERY_TASK",
    "KINDS",
    "LISTS",
    "NORMS",
    "OWNED",
    "PASS_ROWS",
    "Access",
    "Adapted",
    "AnswerKind",
    "AnswerRule",
    "Attack",
    "AttackFault",
    "Averaging",
    "Ball",
    "Batch",
    "Certifier",
    "Classification",
    "Component",
    "ConfigError",
    "DataError",
    "DataSpec",
    "Dataset",
    "Defense",
    "DenseTask",
    "Detection",
    "Examples",
    "FeatureRules",
    "Goal",
    "InputRule",
    "InstancePoison",
    "Loss",
    "Measurement",
    "Metric",
    "MissingPackage",
    "Model",
    "Norm",
    "Outcomes",
    "Poison",
    "PreparedAttack",
    "Refused",
    "Region",
    "RegionKind",
    "RowLoss",
    "SampleRandom",
    "Segmentation",
    "Splits",
    "Supports",
    "System",
    "Target",
    "Task",
    "Threat",
    "Tracker",
    "added",
    "ambient",
    "clipped",
    "derive_seed",
    "distance",
    "features",
    "features_of",
    "hookimpl",
    "inner",
    "inner_list",
    "occurrence",
    "padded",
    "padded_random",
    "parse_eps",
    "rows_norm",
    "straight_through",
    "train_network",
    "using",
]

KINDS = ("dataset", "model", "attack", "defense", "poison", "certifier", "metric", "tracker")
"""The kinds of plugin; each is a class here, a key of the configuration and a config group."""

LISTS = frozenset({"defense", "poison", "certifier", "metric", "tracker"})
"""Kinds of which a run takes an ordered list."""

_HOMES = {
    "benchmark.api.attack": ("Attack", "PreparedAttack", "Supports"),
    "benchmark.api.certifier": ("Certifier",),
    "benchmark.api.component": ("API_VERSION", "Component", "EVERY_TASK", "added", "inner", "inner_list"),
    "benchmark.api.dataset": ("Dataset",),
    "benchmark.api.defense": ("Averaging", "Defense", "Loss"),
    "benchmark.api.metric": ("Measurement", "Metric"),
    "benchmark.api.model": ("Model",),
    "benchmark.api.poison": ("InstancePoison", "Poison"),
    "benchmark.api.tracker": ("Tracker",),
    "benchmark.data": ("Batch", "DataSpec", "Examples", "FeatureRules", "Splits"),
    "benchmark.errors": ("AttackFault", "ConfigError", "DataError", "MissingPackage", "Refused"),
    "benchmark.records.outcomes": ("NORMS", "Outcomes"),
    "benchmark.sampling": ("SampleRandom", "ambient", "derive_seed", "using"),
    "benchmark.system": ("PASS_ROWS", "System", "clipped", "padded", "padded_random", "straight_through"),
    "benchmark.system.adapted": ("Adapted", "AnswerKind", "AnswerRule", "InputRule"),
    "benchmark.system.ledger": ("occurrence",),
    "benchmark.system.networks": ("features", "features_of", "train_network"),
    "benchmark.system.references": ("OWNED",),
    "benchmark.system.target": ("RowLoss", "Target"),
    "benchmark.tasks.detection": ("Detection",),
    "benchmark.tasks.segmentation": ("Segmentation",),
    "benchmark.tasks.task": ("Classification", "DenseTask", "Task"),
    "benchmark.threat": ("Access", "Goal", "Norm", "Region", "RegionKind", "Threat", "parse_eps"),
    "benchmark.threat.ball": ("Ball", "distance", "rows_norm"),
}
"""Names that are offered here, by the module where they live."""

_LAZY = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
