"""Check what outcomes say of triggers and of certified training rows, without running anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.registry.catalogue import catalogue

__all__ = ["Arrays", "optional_arrays", "poison_rules", "to_attack"]

TRIGGERED, AIMED, CERTIFIED_ROWS = "triggered", "aimed", "certified_rows"
Arrays = Mapping[str, NDArray[Any]]


def optional_arrays(attack: str, there: Mapping[str, Any]) -> dict[str, str]:
    """The types of the arrays that these outcomes must have besides the usual ones, by name.

    An attack that shows a trigger brings two, so that no other one can leave examples out; certified training rows are
    there if anything certified them.
    """
    shows = any(d.supports.get("trigger") for d in catalogue("attack") if d.declared.name == attack and d.supports)
    names = [*([TRIGGERED, AIMED] if shows else []), *([CERTIFIED_ROWS] if CERTIFIED_ROWS in there else [])]
    return dict.fromkeys(names, "I64")


def to_attack(a: Arrays) -> NDArray[np.bool_]:
    """Examples given to an attack, (N,): right without it and, of a trigger attack, those that the trigger concerns."""
    right: NDArray[np.bool_] = a["clean_correct"]
    return right & (a[AIMED] >= 0) if AIMED in a else right


def poison_rules(a: Arrays) -> dict[str, NDArray[np.bool_]]:
    """From a fault, in words, to the examples (N,) that do not have it."""
    rules: dict[str, NDArray[np.bool_]] = {}
    if AIMED in a:
        rules |= {
            "a label to evoke that is the true one, or no label": (a[AIMED] >= -1) & (a[AIMED] != a["y"]),
            "an answer to the trigger below -1, which stands for a refusal": a[TRIGGERED] >= -1,
            "a broken example that was not given the label to evoke": ~a["broken"] | (a["adv_label"] == a[AIMED]),
        }
    if CERTIFIED_ROWS in a:
        rows = a[CERTIFIED_ROWS]
        rules["training rows certified below 0, or around a wrong answer"] = (rows == 0) | (
            (rows > 0) & a["clean_correct"]
        )
    return rules
