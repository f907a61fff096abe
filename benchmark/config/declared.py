"""Number of passes that an attack's settings imply, before it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["declared_passes"]

COUNTED = (
    "steps", "restarts", "searches", "rounds", "candidates", "targets", "pairs", "probes", "copies", "neighbours",
    "draws", "coordinates", "population", "epochs",
)  # fmt: skip
"""Settings that count repetitions, under the names that all attacks share."""

BUDGETS = ("queries", "passes")
"""Settings that limit the passes of an attack."""


def declared_passes(settings: Any) -> float:
    """Most passes per example that an attack's settings allow: steps times restarts and so on, or its budget.

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
