"""Guarded calls into installed plugins: process state is restored, or the plugin is named."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from benchmark.guard import RENDEZVOUS, guarded
from benchmark.registry.installed import owner_of

if TYPE_CHECKING:
    from benchmark.api import Component

__all__ = ["calling", "owners"]


def calling(*components: Component, generators: bool = True, draws: bool = True) -> AbstractContextManager[None]:
    """Guard a call into a plugin, or into one of several: see :func:`benchmark.guard.guarded`.

    Args:
        generators: restore the global random generators afterwards. draws: allow draws from them.
    """
    return guarded(lambda: owners(components), generators=generators, draws=draws, lasting=True, spared=RENDEZVOUS)


def owners(components: Sequence[Component]) -> str:
    """Names of the plugins, with their distributions."""
    named = list(dict.fromkeys(owner_of(type(component)).named for component in components))
    return named[0] if len(named) == 1 else f"one of {', '.join(named)}"
