"""Consistency of the arrays of a cell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import RecordError
from benchmark.records.columns import COLUMN_TYPES
from benchmark.threat import Norm
from benchmark.threat.radius import tolerance

from ..cells.array_file import ArrayFile, open_arrays
from ..cells.cell import Cell
from ..cells.evidence import OUTCOMES
from .check_sites import SITES, check_sites
from .check_trigger import AIMED, CERTIFIED_ROWS, TRIGGERED, Arrays, optional_arrays, poison_rules, to_attack

__all__ = [
    "CONFIDENCE",
    "MOST_EXAMPLES",
    "REACHED",
    "WITNESS",
    "check_gallery",
    "check_outcomes",
    "check_witness",
    "open_outcomes",
]

BLOCK_ROWS = 4096
WITNESS = "witness.safetensors"
REACHED = "reached"
CONFIDENCE = "confidence"
BYTE_LEVELS = 256
MOST_EXAMPLES = 10_000_000

ROUNDING = 1e-4
"""Relative tolerance of distances that must agree, since arrays are in single precision."""

DETECTED = ("clean_predicted", "adv_predicted", "clean_suspicion", "adv_suspicion")
"""Arrays of a system with detectors: all of them, or none."""
OPTIONAL = {*DETECTED, *SITES, REACHED, CONFIDENCE, TRIGGERED, AIMED, CERTIFIED_ROWS}
OUTCOME_KINDS = {name: kind for name, kind in COLUMN_TYPES.items() if name not in OPTIONAL}
"""Types of the arrays that all outcomes have."""

MOST_PASSES = 10**11
"""Largest number of passes for one example, so that no sum of them overflows."""


def open_outcomes(cell: Cell) -> Arrays:
    """Open the arrays of outcomes, and check dtypes, shapes and unique examples."""
    assert cell.record.counts is not None
    name = f"cells/{cell.folder.name}/{OUTCOMES}"
    file = open_arrays(cell.folder / OUTCOMES, name)
    more = [*([CONFIDENCE] if CONFIDENCE in file.arrays else []), *(DETECTED if {*DETECTED} & {*file.arrays} else [])]
    more += optional_arrays(cell.record.attack.name, file.arrays)
    kinds = {**OUTCOME_KINDS, **{array: COLUMN_TYPES[array] for array in more}}
    dense = check_sites(file, cell.record.counts.total)
    names = [*kinds, REACHED] if cell.record.threat.goal == "all" else [*kinds]
    apart = (REACHED, *dense)
    rest = replace(file, arrays={array: entry for array, entry in file.arrays.items() if array not in apart})
    rest.expect(kinds, rows=cell.record.counts.total)
    if (REACHED in file.arrays) != (REACHED in names) or not _one_per_label(file, cell.record.counts.total):
        raise RecordError(f"{name} has no valid array {REACHED!r}; expected one if and only if the goal is all")
    return {array: np.array(file.read(array)) for array in (*names, *dense)}


def _one_per_label(file: ArrayFile, rows: int) -> bool:
    """True if the array of reached labels, if present, is bool (rows, K - 1)."""
    kind, shape, _ = file.arrays.get(REACHED, ("BOOL", (rows, 1), 0))
    return kind == "BOOL" and len(shape) == 2 and shape[0] == rows and shape[1] > 0


def check_outcomes(cell: Cell, a: Arrays) -> None:
    """Check the rules that hold for every example of any run; each has an error sentence."""
    threat = cell.record.threat
    distance = a[threat.norm]
    right = a["clean_top5"] if threat.goal == "top5" else a["clean_label"] == a["y"]
    within = (distance <= threat.eps + 2 * tolerance(threat.norm, threat.eps)) | (not cell.record.attack.bounded)
    ordered = (a["linf"] <= a["l2"] * (1 + ROUNDING)) & (a["l2"] <= a["l1"] * (1 + ROUNDING))
    found = np.isfinite(distance)
    spared = to_attack(a) & ~a["attacked"] & ~a["valid"] & bool(cell.record.survivors_of)
    floats = np.stack([a[name] for name in (*(norm.value for norm in Norm), "certified")])
    rules = {
        "a negative id": a["ids"] >= 0,
        "a negative label": a["y"] >= 0,
        "a predicted label below -1, which means refused": (a["clean_label"] >= -1) & (a["adv_label"] >= -1),
        "a negative number of passes": (a["forwards"] >= 0) & (a["backwards"] >= 0),
        f"more than {MOST_PASSES} passes": (a["forwards"] <= MOST_PASSES) & (a["backwards"] <= MOST_PASSES),
        "a distance or radius that is NaN or negative": (floats >= 0).all(axis=0),
        "an excess that is NaN": ~np.isnan(a["excess"]),
        "an example marked correct with another predicted label": a["clean_correct"] == right,
        "an example that was attacked although misclassified, or not attacked although correct":
            a["attacked"] == to_attack(a) & ~spared,
        "an adversarial candidate that was not attacked or not valid": ~a["adversarial"] | (a["attacked"] & a["valid"]),
        "an invalid candidate of an example that was not attacked": a["valid"] | a["attacked"] | spared,
        "a broken example without an adversarial candidate": ~a["broken"] | a["adversarial"],
        "a distance without an adversarial candidate, or a candidate without one": found == a["adversarial"],
        "a broken example whose distance exceeds the radius": ~a["broken"] | within,
        "an adversarial candidate that is classified correctly":
            ~a["adversarial"] | (a["adv_label"] != a["y"]),
        "norms that contradict each other": ordered | ~found,
        "a confidence that is not a probability":
            (a[CONFIDENCE] >= 0) & (a[CONFIDENCE] <= 1 + ROUNDING) if CONFIDENCE in a else np.ones_like(a["broken"]),
        **_of_detectors(a),
        "a certified radius around a misclassified input": (a["certified"] == 0) | a["clean_correct"],
        "an adversarial candidate nearer than its certified radius":
            ~a["adversarial"] | (distance * (1 + ROUNDING) + tolerance(threat.norm, threat.eps) >= a["certified"]),
        "gradients of an attack without gradient access":
            (a["backwards"] == 0) | (threat.access not in ("scores", "labels")),
        "more queries than the threat allows": a["forwards"] <= (threat.queries or np.inf),
        "a first gradient that is not finite": ~a["bad_gradient"],
        "a broken example without a reached label, or an unbroken one with a reached label":
            a[REACHED].any(axis=1) == a["broken"] if REACHED in a else np.ones_like(a["broken"]),
    }  # fmt: skip
    for fault, holds in {**rules, **poison_rules(a)}.items():
        if not holds.all():
            example = int(a["ids"][~holds][0])
            raise RecordError(f"{OUTCOMES} of {cell.place} has {fault} (example {example})")
    if len(np.unique(a["ids"])) != len(a["ids"]):
        raise RecordError(f"{OUTCOMES} of {cell.place} has an example twice")


def _of_detectors(a: Arrays) -> dict[str, NDArray[np.bool_]]:
    """Conditions on every example of a system with detectors."""
    if not {*DETECTED} <= a.keys():
        return {}
    sides = [(a[f"{side}_suspicion"], a[f"{side}_label"], a[f"{side}_predicted"]) for side in ("clean", "adv")]
    clean, adv = (np.where(suspicion > 0, -1, predicted) == label for suspicion, label, predicted in sides)
    return {
        "a suspicion that is NaN": ~np.isnan(a["clean_suspicion"]) & ~np.isnan(a["adv_suspicion"]),
        "a label that is neither the predicted one nor, for a suspicious input, a refusal": clean & adv,
    }


def check_witness(cell: Cell, a: Arrays, file: ArrayFile) -> None:
    """Check that the candidates are those of the adversarial examples, finite and inside the box.

    They are in single precision or, under a threat of 256 levels, in bytes, each k for k / 255.
    """
    in_bytes = file.arrays.get("x_adv", ("",))[0] == "U8"
    file.expect({"ids": "I64", "x_adv": "U8" if in_bytes else "F32"})
    if in_bytes and cell.record.threat.levels != BYTE_LEVELS:
        raise RecordError(f"{file.name} has candidates in bytes; expected float32, since threat.levels is not 256")
    (_, ids_shape, _), (_, shape, _) = file.arrays["ids"], file.arrays["x_adv"]
    if len(ids_shape) != 1 or len(shape) < 2 or ids_shape[0] != shape[0]:
        raise RecordError(f"{file.name} has {list(ids_shape)} ids and candidates {list(shape)}; expected one for each")
    ids, x_adv = file.read("ids"), file.read("x_adv")
    if len(np.unique(ids)) != len(ids):
        raise RecordError(f"{file.name} has an example twice")
    if not np.array_equal(np.sort(ids), np.sort(a["ids"][a["adversarial"]])):
        raise RecordError(f"{file.name} does not consist of exactly the adversarial examples in {OUTCOMES}")
    for start in range(0, len(ids), BLOCK_ROWS):
        block = _values(x_adv[start : start + BLOCK_ROWS])
        if not np.isfinite(block).all():
            raise RecordError(f"{file.name} has a value that is not finite")
        if len(block) and (block.min() < 0 or block.max() > 1):
            raise RecordError(f"{file.name} has a value outside [0, 1]")
    if shape[1:] and len(ids) and a["l0"][a["adversarial"]].max() > np.prod(shape[1:]):
        raise RecordError(f"{OUTCOMES} of {cell.place} has an l0 distance beyond the number of features")


def _values(stored: NDArray[Any]) -> NDArray[np.float32]:
    """Values in [0, 1] of candidates as they are stored, in single precision or in bytes."""
    values = np.asarray(stored)
    return values.astype(np.float32) / np.float32(255) if values.dtype == np.uint8 else values


def check_gallery(a: Arrays, witness: ArrayFile, file: ArrayFile) -> None:
    """Check that the images are of examples of the cell, and the adversarial ones those of the witness."""
    labels = ("ids", "y", "clean_label", "adv_label")
    sites = [name for name in SITES if name in a]
    apart = {name: entry for name, entry in file.arrays.items() if name not in sites}
    replace(file, arrays=apart).expect({**dict.fromkeys(labels, "I64"), "clean": "F32", "adv": "F32"})
    shapes = {name: shape for name, (_, shape, _) in apart.items()}
    count = len(file.read("ids")) if shapes["ids"] else 0
    if any(name not in file.arrays or file.arrays[name][1] != (count, *a[name].shape[1:]) for name in sites):
        raise RecordError(f"{file.name} does not have the predictions per site in {OUTCOMES}")
    features = witness.arrays["x_adv"][1][1:]
    for name, shape in shapes.items():
        wanted = (count,) if name in labels else (count, *features)
        if shape != wanted:
            raise RecordError(f"{name} in {file.name} is {list(shape)}; expected {list(wanted)}")
    ids, clean, adv = file.read("ids"), np.asarray(file.read("clean")), np.asarray(file.read("adv"))
    if not all(np.isfinite(x).all() and (not x.size or (x.min() >= 0 and x.max() <= 1)) for x in (clean, adv)):
        raise RecordError(f"{file.name} has a value that is not finite or outside [0, 1]")
    row = {int(example): at for at, example in enumerate(a["ids"])}
    proof = {int(example): at for at, example in enumerate(witness.read("ids"))}
    if len({*ids.tolist()}) != count or not {*ids.tolist()} <= set(proof):
        raise RecordError(f"{file.name} shows an example twice, or one that is not in {WITNESS}")
    x_adv = witness.read("x_adv")
    for at, example in enumerate(ids.tolist()):
        same = all(np.array_equal(file.read(name)[at], a[name][row[example]]) for name in (*labels, *sites))
        far = np.abs(adv[at] - clean[at]).max() - a["linf"][row[example]]
        if not same or abs(far) > ROUNDING or not np.array_equal(adv[at], _values(x_adv[proof[example]])):
            raise RecordError(f"{file.name} contradicts {OUTCOMES} and {WITNESS} on example {example}")
