"""Defenses and attacks as given on the command line: a plugin's name and its settings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark import registry
from benchmark.config.members import is_variant
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
        """The part as typed on the command line."""
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.settings)])

    @property
    def overrides(self) -> list[str]:
        """Settings as overrides of a run."""
        prefix = f"{self.kind}.{self.name}" if self.kind in registry.LISTS else self.kind
        return [f"{prefix}.{key}={value}" for key, value in self.settings]


def parts(kind: str, text: str, own: Sequence[Path] = ()) -> list[Part]:
    """Parse `NAME key=value other=1|2` into a plugin or a variant, with each combination of its settings.

    Args:
        own: folders of the user's variants, beside those in conf/.

    Raises:
        ConfigError: if there is no such plugin, or a setting is not KEY=VALUE.
    """
    name, *settings = text.split()
    if not is_variant(kind, name, own):
        registry.find(kind, name)
    choices = []
    for setting in settings:
        key, equals, values = setting.partition("=")
        if not (key and equals and values):
            raise ConfigError(f"{setting!r} of {kind} {name} is not a setting; expected KEY=VALUE or KEY=VALUE|VALUE")
        choices.append([(key, value) for value in values.split("|")])
    return [Part(kind, name, tuple(chosen)) for chosen in itertools.product(*choices)]
