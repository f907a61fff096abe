"""Calls into installed plugins: the process is afterwards as it was before, or the plugin is named."""

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
    """Around a call into a plugin, or into one of several: see :func:`benchmark.guard.guarded`.

    Args:
        generators: put the global random generators back afterwards. draws: it may draw from them.
    """
    return guarded(lambda: owners(components), generators=generators, draws=draws, spared=RENDEZVOUS)


def owners(components: Sequence[Component]) -> str:
    """The plugins by name, with the distributions that they come from."""
    named = list(dict.fromkeys(owner_of(type(component)).named for component in components))
    return named[0] if len(named) == 1 else f"one of {', '.join(named)}"
