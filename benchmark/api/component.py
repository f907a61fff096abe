"""The base class of every kind of plugin, and the fields that hold other plugins."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, field
from typing import Any, ClassVar

from benchmark.tasks.detection import Detection
from benchmark.tasks.segmentation import Segmentation
from benchmark.tasks.task import CLASSIFICATION

__all__ = ["API_VERSION", "EVERY_TASK", "Component", "added", "inner", "inner_list"]

MISSING: Any = "???"
"""What OmegaConf takes for a value that has to be given; its import would cost more than all of these."""

API_VERSION = 1
"""The version of the contracts."""

EVERY_TASK = frozenset({CLASSIFICATION, Segmentation.name, Detection.name})
"""All tasks: for plugins that read answers only through the shared losses and verdicts."""


def inner(default_name: str) -> Any:
    """Field that holds another plugin, by default the plugin (or named variant in conf/) `default_name`.

    For example `attack: Attack = inner("pgd")`.

    On the command line the choice is `attack@defense.adversarial_training.attack=fgsm`, and its parameters are
    `defense.adversarial_training.attack.steps=7`.
    """
    return field(default=MISSING, metadata={"plugin": default_name})


def inner_list(*default_names: str) -> Any:
    """Field that holds a tuple of other plugins, by default those of these names (or named variants in conf/).

    For example `members: tuple[Attack, ...] = inner_list("fgsm", "pgd")`.

    On the command line it is a list of names and of names with settings: `attack.members=[fgsm,{pgd:{steps:10}}]`.
    """
    return field(default=MISSING, metadata={"plugins": default_names})


def added(default: Any) -> Any:
    """Field added in a later version of a plugin; left out of the settings at its default.

    So systems trained before the field existed keep their keys.
    """
    return field(default=default, metadata={"added": True})


@dataclass(frozen=True)
class Component(ABC):  # noqa: B024 - each kind says what is abstract
    """Base class of all plugin kinds.

    api_version: the version of the contracts that the plugin was written for.
    tasks: names of the supported tasks, see :mod:`benchmark.tasks`; a dataset has exactly one.
    """

    api_version: ClassVar[int] = API_VERSION
    tasks: ClassVar[frozenset[str]] = frozenset({CLASSIFICATION})

    @classmethod
    def offers(cls) -> tuple[str, ...]:
        """Choices that a bridge to another package offers, one line each, shown by `benchmark plugins`.

        For example the attacks of a toolkit, with the abilities of each. Empty for other plugins.
        """
        return ()
