"""Checks of outcomes about triggers and certified training rows, without running anything."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.records.columns import COLUMN_TYPES
from benchmark.registry.catalogue import catalogue

__all__ = ["AIMED", "CERTIFIED_ROWS", "TRIGGERED", "Arrays", "optional_arrays", "poison_rules", "to_attack"]

TRIGGERED, AIMED, CERTIFIED_ROWS = "triggered", "aimed", "certified_rows"
Arrays = Mapping[str, NDArray[Any]]


def optional_arrays(attack: str, there: Mapping[str, Any]) -> dict[str, str]:
    """Dtypes of the additional arrays that these outcomes must have, by name.

    An attack that applies a trigger has two, so that no other attack can leave examples out; certified training rows
    are present if anything certified them.
    """
    shows = attack in _trigger_attacks()
    names = [*([TRIGGERED, AIMED] if shows else []), *([CERTIFIED_ROWS] if CERTIFIED_ROWS in there else [])]
    return {name: COLUMN_TYPES[name] for name in names}


@functools.cache
def _trigger_attacks() -> frozenset[str]:
    """Names of the installed attacks that apply a trigger; to list the plugins takes longer than to check a cell."""
    return frozenset(d.declared.name for d in catalogue("attack") if d.supports and d.supports.get("trigger"))


def to_attack(a: Arrays) -> NDArray[np.bool_]:
    """Examples given to an attack, (N,) bool: correct ones and, for a trigger attack, those that the poison targets."""
    right: NDArray[np.bool_] = a["clean_correct"]
    return right & (a[AIMED] >= 0) if AIMED in a else right


def poison_rules(a: Arrays) -> dict[str, NDArray[np.bool_]]:
    """Rules by the name of their fault: the examples that satisfy each, (N,) bool."""
    rules: dict[str, NDArray[np.bool_]] = {}
    if AIMED in a:
        rules |= {
            "a target label of the trigger that is the true one, or not a label": (a[AIMED] >= -1)
            & (a[AIMED] != a["y"]),
            "a label under the trigger below -1, which means refused": a[TRIGGERED] >= -1,
            "a broken example without the target label of the trigger": ~a["broken"] | (a["adv_label"] == a[AIMED]),
        }
    if CERTIFIED_ROWS in a:
        rows = a[CERTIFIED_ROWS]
        rules["a negative number of certified training rows, or some for a misclassified input"] = (rows == 0) | (
            (rows > 0) & a["clean_correct"]
        )
    return rules
