"""One cell of a submission: does the record agree with its arrays, and the arrays with themselves?"""

from __future__ import annotations

import datetime
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from benchmark.errors import RecordError
from benchmark.records.record import Card, Counts, Record, cell_key, read_record
from benchmark.registry.catalogue import catalogue
from benchmark.threat.radius import tolerance

from ..cells.array_file import ArrayFile, open_arrays
from ..cells.bounds import check_card_bounds, check_lists, check_numbers
from ..cells.gallery import GALLERY
from ..cells.load import KEY, OUTCOMES, RECORD, Cell
from ..cells.strict_json import strict_json
from ..ranking.grouping import exact_eps
from .check_sites import SITES, check_sites
from .check_text import check_names, check_texts
from .check_trigger import Arrays, optional_arrays, poison_rules, to_attack
from .claims import key_of

__all__ = ["CARD", "MASK", "WEIGHTS", "WITNESS", "checked_card", "checked_cell"]

WITNESS = "witness.safetensors"
PREPARED = "prepared.safetensors"
MASK = "mask.safetensors"
WEIGHTS = "weights.safetensors"
CARD = "card.json"
BLOCK_ROWS = 4096
MOST_EXAMPLES = 10_000_000
ROUNDING = 1e-4
"""Relative difference allowed between distances that ought to agree: arrays are single precision."""

OUTCOME_KINDS = {
    **dict.fromkeys(("ids", "y", "clean_label", "adv_label", "forwards", "backwards"), "I64"),
    **dict.fromkeys(
        ("clean_correct", "clean_top5", "attacked", "valid", "adversarial", "broken", "robust_top5"), "BOOL"
    ),
    **dict.fromkeys(("zero_gradient", "bad_gradient"), "BOOL"),
    **dict.fromkeys(("l0", "l1", "l2", "linf", "excess", "certified"), "F32"),
}
FIRST_YEAR = 2020
MOST_PASSES = 10**11
"""Passes for one example, at most, so that no sum of them overflows."""
MOST_PREPARED = 64 << 20
"""Bytes of what an attack prepared, at most."""
REACHED = "reached"
CONFIDENCE = "confidence"
DETECTED = {"clean_predicted": "I64", "adv_predicted": "I64", "clean_suspicion": "F32", "adv_suspicion": "F32"}
"""Arrays of a system with detectors: all of them, or none."""


def checked_cell(folder: Path) -> Cell:
    """The cell in `folder`, if everything that can be seen without running anything is consistent.

    Raises:
        RecordError: naming the first thing that is not.
    """
    record = _record(folder / RECORD)
    place = f"cells/{folder.name}"
    cell = Cell(record, folder, f"{place}/{RECORD}")
    if record.key != folder.name:
        raise RecordError(f"the record in {place} has the key {record.key}; expected the name of its folder")
    exact_eps(cell)
    named = {file.path: file for file in record.files}
    if {*named} - {GALLERY, PREPARED, MASK} != {OUTCOMES, WITNESS} or len(record.files) != len(named):
        raise RecordError(f"{cell.place} names the files {sorted(named)[:4]}; expected {OUTCOMES} and {WITNESS}")
    for name, file in named.items():
        if not (folder / name).is_file():
            raise RecordError(f"{place}/{name} is missing, and the record names it")
        with (folder / name).open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if (folder / name).stat().st_size != file.bytes or found != file.sha256:
            raise RecordError(f"{place}/{name} is not the file that the record names by size and sha256")
    outcomes = _outcomes(cell)
    _check_outcomes(cell, outcomes)
    _check_record(cell, outcomes)
    witness = open_arrays(folder / WITNESS, f"{place}/{WITNESS}")
    _check_witness(cell, outcomes, witness)
    if GALLERY in named:
        _check_gallery(outcomes, witness, open_arrays(folder / GALLERY, f"{place}/{GALLERY}"))
    if PREPARED in named and named[PREPARED].bytes > MOST_PREPARED:
        raise RecordError(f"{place}/{PREPARED} has {named[PREPARED].bytes} bytes; expected at most {MOST_PREPARED}")
    for name in named.keys() & {PREPARED, MASK}:
        open_arrays(folder / name, f"{place}/{name}")
    return cell


def checked_card(folder: Path) -> Card:
    """The card in `folder`; weights beside it must be the file that it names, and are not read beyond their header.

    Raises:
        RecordError: naming the first thing that is wrong.
    """
    place = f"systems/{folder.name}"
    path = folder / CARD
    if not path.is_file():
        raise RecordError(f"{place}/{CARD} is missing; expected the card of every system")
    document = strict_json(path.read_bytes(), f"{place}/{CARD}")
    check_texts(document, f"{place}/{CARD}")
    try:
        card = Card.model_validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        raise RecordError(f"{place}/{CARD} is not a card: {_first(error)}") from error
    check_card_bounds(card, f"{place}/{CARD}")
    if not card.key == card.system.key == folder.name:
        raise RecordError(
            f"{place}/{CARD} has the keys {card.key[:24]!r} and {card.system.key[:24]!r}; expected its folder's"
        )
    expected = key_of(card.system, card.seed, card.dataset_revision)
    if expected not in (None, card.key):
        raise RecordError(
            f"{place}/{CARD} has the key {card.key}, and its settings, seed and dataset give {expected}; a key is the "
            "content address of its system"
        )
    for part in ("select", "test"):
        correct, total = getattr(card, f"{part}_correct"), getattr(card, f"{part}_total")
        if not 0 <= correct <= total:
            raise RecordError(f"{place}/{CARD} counts {correct} of {total} {part} examples right")
    weights = folder / WEIGHTS
    if weights.is_file():
        open_arrays(weights, f"{place}/{WEIGHTS}")
        with weights.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != card.weights_sha256:
                raise RecordError(f"{place}/{WEIGHTS} does not have the sha256 that its card gives")
    if card.sha256 not in ("", card.sealed().sha256):
        raise RecordError(f"{place}/{CARD} does not have the sha256 that it gives itself; submit it as it was written")
    return card


def _record(path: Path) -> Record:
    name = f"cells/{path.parent.name}/{RECORD}"
    if not path.is_file():
        raise RecordError(f"{name} is missing; expected one in every cell")
    document = strict_json(path.read_bytes(), name)
    check_texts(document, name)
    try:
        record = read_record(path)
    except RecordError as error:
        raise RecordError(str(error).replace(str(path), name)) from error
    _check_types(path, name)
    check_lists(record, name)
    check_numbers(record, name)
    check_names(record)
    for what, key in (("key", record.key), ("system.key", record.system.key)):
        if not KEY.fullmatch(key):
            raise RecordError(f"{name} has {what} {key[:40]!r}; expected 24 hexadecimal digits")
    if record.harness and cell_key(record) != record.key:
        raise RecordError(f"{name} has the key {record.key}, and its settings give {cell_key(record)}")
    if record.status != "complete":
        raise RecordError(f"{name} is {record.status}; only complete cells can be submitted")
    if record.counts is None or not 0 < record.counts.total <= MOST_EXAMPLES:
        raise RecordError(f"{name} counts no examples, or more than {MOST_EXAMPLES}")
    if record.cost is None:
        raise RecordError(f"{name} has no cost; expected the passes that the attack used")
    if record.official and not record.suite:
        raise RecordError(f"{name} calls itself official and names no suite")
    threat = record.threat
    if threat.targeted != (threat.goal not in ("untargeted", "top5")):
        raise RecordError(f"{name} has the goal {threat.goal!r} and says targeted {threat.targeted}")
    _check_date(record.provenance.get("created"), name)
    overrides = record.provenance.get("overrides", [])
    if not isinstance(overrides, list) or not all(isinstance(word, str) for word in overrides):
        raise RecordError(f"{name} has provenance.overrides that is no list of texts")
    return record


def _check_types(path: Path, name: str) -> None:
    """A number in quotes, or a word for yes, is read by nobody twice in the same way."""
    try:
        Record.model_validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        raise RecordError(f"{name} is not a record of the types of its schema: {_first(error)}") from error


def _check_date(said: Any, name: str) -> None:
    """The day on which a record was made stands in histories and feeds."""
    if said is None:
        return
    try:
        made = datetime.datetime.strptime(str(said), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC)
    except ValueError as error:
        raise RecordError(
            f"{name} was created {str(said)[:40]!r}; expected a date like 2026-01-31T12:00:00Z"
        ) from error
    if made.year < FIRST_YEAR:
        raise RecordError(f"{name} was created {said}, before there were such records")
    if made > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1):
        raise RecordError(f"{name} was created {said}, which has not come yet")


def _first(error: ValidationError) -> str:
    fault = error.errors()[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'the document'}: {fault['msg']}"


def _outcomes(cell: Cell) -> Arrays:
    assert cell.record.counts is not None
    name = f"cells/{cell.folder.name}/{OUTCOMES}"
    file = open_arrays(cell.folder / OUTCOMES, name)
    kinds = {**OUTCOME_KINDS, CONFIDENCE: "F32"} if CONFIDENCE in file.arrays else OUTCOME_KINDS
    kinds = {**kinds, **optional_arrays(cell.record.attack.name, file.arrays)}
    kinds = {**kinds, **DETECTED} if DETECTED.keys() & file.arrays.keys() else kinds
    dense = check_sites(file, cell.record.counts.total)
    names = [*kinds, REACHED] if cell.record.threat.goal == "all" else [*kinds]
    rest = replace(
        file, arrays={array: entry for array, entry in file.arrays.items() if array not in (REACHED, *dense)}
    )
    rest.expect(kinds, rows=cell.record.counts.total)
    if (REACHED in file.arrays) != (REACHED in names) or not _one_per_label(file, cell.record.counts.total):
        raise RecordError(f"{name} has no sound array {REACHED!r}, which the goal all has and no other")
    return {array: np.array(file.read(array)) for array in (*names, *dense)}


def _one_per_label(file: ArrayFile, rows: int) -> bool:
    """Tell whether the labels reached, if they are there, are bools (rows, K - 1)."""
    kind, shape, _ = file.arrays.get(REACHED, ("BOOL", (rows, 1), 0))
    return kind == "BOOL" and len(shape) == 2 and shape[0] == rows and shape[1] > 0


def _check_outcomes(cell: Cell, a: Arrays) -> None:
    """Check the rules that hold for every example, whoever ran it; each has a sentence to act upon."""
    threat = cell.record.threat
    distance = a[threat.norm]
    right = a["clean_top5"] if threat.goal == "top5" else a["clean_label"] == a["y"]
    within = (distance <= threat.eps + 2 * tolerance(threat.norm, threat.eps)) | (not cell.record.attack.bounded)
    ordered = (a["linf"] <= a["l2"] * (1 + ROUNDING)) & (a["l2"] <= a["l1"] * (1 + ROUNDING))
    found = np.isfinite(distance)
    spared = to_attack(a) & ~a["attacked"] & ~a["valid"] & bool(cell.record.survivors_of)
    floats = np.stack([a[name] for name in ("l0", "l1", "l2", "linf", "certified")])
    rules = {
        "an id that is negative": a["ids"] >= 0,
        "a label that is negative": a["y"] >= 0,
        "an answer below -1, which stands for a refusal": (a["clean_label"] >= -1) & (a["adv_label"] >= -1),
        "a number of passes that is negative": (a["forwards"] >= 0) & (a["backwards"] >= 0),
        f"more than {MOST_PASSES} passes": (a["forwards"] <= MOST_PASSES) & (a["backwards"] <= MOST_PASSES),
        "a distance or radius that is NaN or negative": (floats >= 0).all(axis=0),
        "an excess that is NaN": ~np.isnan(a["excess"]),
        "an example called right whose answer is another label": a["clean_correct"] == right,
        "an example that was attacked though it was wrong, or not attacked though it was right":
            a["attacked"] == to_attack(a) & ~spared,
        "an adversarial candidate that was not attacked or not valid": ~a["adversarial"] | (a["attacked"] & a["valid"]),
        "an invalid candidate where nothing was attacked": a["valid"] | a["attacked"] | spared,
        "a broken example without an adversarial candidate": ~a["broken"] | a["adversarial"],
        "a distance without an adversarial candidate, or a candidate without one": found == a["adversarial"],
        "a broken example whose distance exceeds the radius": ~a["broken"] | within,
        "an adversarial candidate with the right answer":
            ~a["adversarial"] | (a["adv_label"] != a["y"]),
        "norms that contradict each other": ordered | ~found,
        "a confidence that is no probability":
            (a[CONFIDENCE] >= 0) & (a[CONFIDENCE] <= 1 + ROUNDING) if CONFIDENCE in a else np.ones_like(a["broken"]),
        **_of_detectors(a),
        "a certified radius around a wrong answer": (a["certified"] == 0) | a["clean_correct"],
        "an adversarial candidate nearer than its certified radius":
            ~a["adversarial"] | (distance * (1 + ROUNDING) + tolerance(threat.norm, threat.eps) >= a["certified"]),
        "gradients of an attack that may not see them":
            (a["backwards"] == 0) | (threat.access not in ("scores", "labels")),
        "more queries than the threat allows": a["forwards"] <= (threat.queries or np.inf),
        "a first gradient that is not finite": ~a["bad_gradient"],
        "a broken example that reached no label, or another one that did":
            a[REACHED].any(axis=1) == a["broken"] if REACHED in a else np.ones_like(a["broken"]),
    }  # fmt: skip
    for fault, holds in {**rules, **poison_rules(a)}.items():
        if not holds.all():
            example = int(a["ids"][~holds][0])
            raise RecordError(f"{OUTCOMES} of {cell.place} has {fault} (example {example})")
    if len(np.unique(a["ids"])) != len(a["ids"]):
        raise RecordError(f"{OUTCOMES} of {cell.place} holds an example twice")


def _of_detectors(a: Arrays) -> dict[str, NDArray[np.bool_]]:
    """Conditions on every example of a system with detectors."""
    if not DETECTED.keys() <= a.keys():
        return {}
    sides = [(a[f"{side}_suspicion"], a[f"{side}_label"], a[f"{side}_predicted"]) for side in ("clean", "adv")]
    clean, adv = (np.where(suspicion > 0, -1, predicted) == label for suspicion, label, predicted in sides)
    return {
        "a suspicion that is NaN": ~np.isnan(a["clean_suspicion"]) & ~np.isnan(a["adv_suspicion"]),
        "an answer that is neither what was predicted nor, where it is suspicious, a refusal": clean & adv,
    }


@functools.cache
def _declared(attack: str) -> Mapping[str, bool]:
    """Declarations of an attack, by its name in the record; empty for one that is not installed."""
    known = [d.supports for d in catalogue("attack") if d.declared.name == attack and d.supports]
    kinds = {"bounded": True, "minimal": False, "randomized": False}
    return {kind: bool(known[0].get(kind, usual)) for kind, usual in kinds.items()} if known else {}


def _check_record(cell: Cell, a: Arrays) -> None:
    """Counts, costs, hashes and findings of the record, against its arrays."""
    record = cell.record
    assert record.cost is not None
    others = {"members", "method"} & record.attack.params.keys()  # what they can do, where it is made of others
    declared = {} if others else _declared(record.attack.name)
    for kind, is_so in declared.items():
        if getattr(record.attack, kind) is not is_so:
            raise RecordError(
                f"{cell.place} says attack.{kind} is {str(not is_so).lower()}; attack.{record.attack.name} declares "
                f"{str(is_so).lower()}"
            )
    said = record.counts
    seen = Counts(
        total=len(a["ids"]),
        clean_correct=int(a["clean_correct"].sum()),
        robust_correct=int((a["clean_correct"] & a["valid"] & ~a["broken"]).sum()),
        clean_top5=int(a["clean_top5"].sum()),
        robust_top5=int((a["robust_top5"] & a["valid"]).sum()),
        invalid=int((a["attacked"] & ~a["valid"]).sum()),
        spared=int((~a["attacked"] & ~a["valid"]).sum()),
    )
    for name, value in seen:
        if getattr(said, name) != value:
            raise RecordError(f"{cell.place} counts {name} {getattr(said, name)}, and its {OUTCOMES} gives {value}")
    passes = (int(a["forwards"].sum()), int(a["backwards"].sum()))
    if (record.cost.forwards, record.cost.backwards) != passes:
        raise RecordError(
            f"{cell.place} counts {record.cost.forwards} forward and {record.cost.backwards} backward passes, and its "
            f"{OUTCOMES} gives {passes[0]} and {passes[1]}"
        )
    labels = a.get(SITES[0], a["y"])
    digest = hashlib.sha256(a["ids"].astype("<i8").tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    if digest != record.examples_sha256:
        raise RecordError(f"{cell.place} gives a hash of its example list that differs from that of its {OUTCOMES}")
    _check_metrics(cell, seen)
    named = [finding.name for finding in record.findings]
    if seen.invalid and "invalid_candidates" not in named:
        raise RecordError(f"{cell.place} has {seen.invalid} invalid candidates and no finding that says so")
    asked = a["attacked"] & (a["backwards"] > 0)
    blind = int((a["zero_gradient"] & asked).sum())
    if 10 * blind > int(asked.sum()) and "zero_gradients" not in named:
        raise RecordError(f"{cell.place} has {blind} first gradients that are zero and no finding that says so")
    errors = [finding.name for finding in record.findings if finding.severity == "error"]
    if errors:
        raise RecordError(
            f"{cell.place} has the finding {errors[0]}, an error of the evaluation; mend it and run again"
        )
    if record.splits_disjoint is not True:
        raise RecordError(f"{cell.place} does not say that training and test examples are disjoint")


def _check_metrics(cell: Cell, seen: Counts) -> None:
    """Check metrics against the counts; each may stand once."""
    counted = {
        "robust_accuracy": seen.robust_correct,
        "robust_top5_accuracy": seen.robust_top5,
        "clean_accuracy": seen.clean_correct,
        "clean_top5_accuracy": seen.clean_top5,
    }
    names = [metric.name for metric in cell.record.metrics]
    for metric in cell.record.metrics:
        if names.count(metric.name) > 1:
            raise RecordError(f"{cell.place} gives the metric {metric.name} twice; expected each once")
        value = metric.value
        if value is None or metric.name not in counted:
            continue
        if abs(value - counted[metric.name] / seen.total) > 1e-6:
            raise RecordError(f"{cell.place} gives a {metric.name} of {value}, and its counts give another")
        low, high = (end if end is not None else value for end in (metric.low, metric.high))
        if not low <= value <= high:
            raise RecordError(f"{cell.place} gives a {metric.name} of {value} outside its interval {low} to {high}")


def _check_witness(cell: Cell, a: Arrays, file: ArrayFile) -> None:
    """The candidates must be those of the adversarial examples, finite and inside the box."""
    file.expect({"ids": "I64", "x_adv": "F32"})
    (_, ids_shape, _), (_, shape, _) = file.arrays["ids"], file.arrays["x_adv"]
    if len(ids_shape) != 1 or len(shape) < 2 or ids_shape[0] != shape[0]:
        raise RecordError(f"{file.name} has {list(ids_shape)} ids and candidates {list(shape)}; expected one for each")
    ids, x_adv = file.read("ids"), file.read("x_adv")
    if len(np.unique(ids)) != len(ids):
        raise RecordError(f"{file.name} holds an example twice")
    if not np.array_equal(np.sort(ids), np.sort(a["ids"][a["adversarial"]])):
        raise RecordError(f"{file.name} is not made of just the examples that {OUTCOMES} calls adversarial")
    for start in range(0, len(ids), BLOCK_ROWS):
        block = np.asarray(x_adv[start : start + BLOCK_ROWS])
        if not np.isfinite(block).all():
            raise RecordError(f"{file.name} holds a value that is not finite")
        if len(block) and (block.min() < 0 or block.max() > 1):
            raise RecordError(f"{file.name} holds a value outside [0, 1]")
    if shape[1:] and len(ids) and a["l0"][a["adversarial"]].max() > np.prod(shape[1:]):
        raise RecordError(f"{OUTCOMES} of {cell.place} has an l0 distance beyond the number of features")


def _check_gallery(a: Arrays, witness: ArrayFile, file: ArrayFile) -> None:
    """The pictures must be of examples of the cell, and the adversarial ones those of the witness."""
    labels = ("ids", "y", "clean_label", "adv_label")
    file.expect({**dict.fromkeys(labels, "I64"), "clean": "F32", "adv": "F32"})
    shapes = {name: shape for name, (_, shape, _) in file.arrays.items()}
    count = len(file.read("ids")) if shapes["ids"] else 0
    features = witness.arrays["x_adv"][1][1:]
    for name, shape in shapes.items():
        wanted = (count,) if name in labels else (count, *features)
        if shape != wanted:
            raise RecordError(f"{name} in {file.name} is {list(shape)}; expected {list(wanted)}")
    ids, clean, adv = file.read("ids"), np.asarray(file.read("clean")), np.asarray(file.read("adv"))
    if not all(np.isfinite(x).all() and (not x.size or (x.min() >= 0 and x.max() <= 1)) for x in (clean, adv)):
        raise RecordError(f"{file.name} holds a value that is not finite or outside [0, 1]")
    row = {int(example): at for at, example in enumerate(a["ids"])}
    proof = {int(example): at for at, example in enumerate(witness.read("ids"))}
    if len({*ids.tolist()}) != count or not {*ids.tolist()} <= set(proof):
        raise RecordError(f"{file.name} shows an example twice, or one that is not in {WITNESS}")
    x_adv = witness.read("x_adv")
    for at, example in enumerate(ids.tolist()):
        same = all(file.read(name)[at] == a[name][row[example]] for name in labels)
        far = np.abs(adv[at] - clean[at]).max() - a["linf"][row[example]]
        if not same or abs(far) > ROUNDING or not np.array_equal(adv[at], x_adv[proof[example]]):
            raise RecordError(f"{file.name} shows example {example} otherwise than {OUTCOMES} and {WITNESS} have it")
