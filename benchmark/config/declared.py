"""The passes that an attack declares by its settings, before it has run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["declared_passes"]

COUNTED = (
    "steps", "restarts", "searches", "rounds", "candidates", "targets", "pairs", "probes", "copies", "neighbours",
    "draws", "coordinates", "population", "epochs",
)  # fmt: skip
"""Settings of attacks that say how often they do something, by the names that all attacks use."""

BUDGETS = ("queries", "passes")
"""Settings of attacks that limit their passes."""


def declared_passes(settings: Any) -> float:
    """Passes per example that an attack may make by its settings: steps times restarts and so on, or its budget.

    Args:
        settings: of the attack, as plain data; those of its members count as well.
    """
    if isinstance(settings, Mapping):
        repeats = [settings[name] for name in COUNTED if isinstance(settings.get(name), int)]
        budgets = [settings[name] for name in BUDGETS if isinstance(settings.get(name), int)]
        inner = sum(declared_passes(value) for value in settings.values() if isinstance(value, (Mapping, list, tuple)))
        own = math.prod(repeats) if repeats else 0 if budgets or inner else 1
        return float(own + sum(budgets) + inner)
    return float(sum(declared_passes(value) for value in settings if isinstance(value, Mapping)))
