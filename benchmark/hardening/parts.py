"""Protections and attacks as the command line names them: a plugin's name and its settings."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from benchmark import registry
from benchmark.errors import ConfigError

__all__ = ["Part", "parts"]


@dataclass(frozen=True)
class Part:
    """A plugin with settings, such as `jpeg quality=50`. kind: `defense` or `attack`."""

    kind: str
    name: str
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """The part as it was typed."""
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.settings)])

    @property
    def overrides(self) -> list[str]:
        """Its settings as overrides of a run."""
        prefix = f"{self.kind}.{self.name}" if self.kind in registry.LISTS else self.kind
        return [f"{prefix}.{key}={value}" for key, value in self.settings]


def parts(kind: str, text: str) -> list[Part]:
    """The plugin that `text` names, with its settings: `NAME key=value other=1|2`; each value in turn where there
    are several.

    Raises:
        ConfigError: if there is no such plugin, or a setting is not KEY=VALUE.
    """
    name, *settings = text.split()
    registry.find(kind, name)
    choices = []
    for setting in settings:
        key, equals, values = setting.partition("=")
        if not (key and equals and values):
            raise ConfigError(f"{setting!r} of {kind} {name} is no setting; expected KEY=VALUE or KEY=VALUE|VALUE")
        choices.append([(key, value) for value in values.split("|")])
    return [Part(kind, name, tuple(chosen)) for chosen in itertools.product(*choices)]
