"""Forged cells: one seeded edit of record, outcomes, witness, gallery or mask, all that follows from it mended.

After an edit of the outcomes, counts, metrics, audit, cost, sizes and hashes are made those of the edited arrays, as a
forger would: what then catches the edit is a proof and no checksum.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmark.records.build import AuditCounts, audit_of, counts_of
from benchmark.records.durable import file_sha256
from benchmark.records.outcomes import OUTCOMES, WITNESS, Outcomes
from benchmark.records.record import Record, cell_key
from benchmark.stages.measure import measure
from benchmark.stages.rebuild import component

__all__ = ["Edit", "forged"]

OPEN_FIELDS = (
    "cost.seconds", "cost.peak_memory_bytes", "cost.prepared_forwards", "cost.prepared_backwards", "provenance", "key",
    "schema_version",
)  # fmt: skip
"""Fields of a record that no proof reaches; the key and the version of the schema have tests of their own."""

SETTINGS = ("attack.params", "attack.version", "threat.eot", "threat.queries", "suite", "official", "harness")
"""Settings that name what was run: hashed anew, they are what the record says, and only an attack again can tell."""


@dataclass(frozen=True)
class Edit:
    """A forged change. proof: what should catch it: `verify`, `again` (an attack again) or `nothing`."""

    what: str
    proof: str


def forged(folder: Path, to: Path, number: int) -> Edit:
    """A copy of a sound cell with one edit, which `number` determines; edits that change nothing are drawn again."""
    rng = random.Random(number)
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    kinds: list[Callable[[Path, random.Random], Edit | None]] = [_record, _setting, _column, _column, _column, _witness]
    kinds += [_file] if len(list(to.iterdir())) > 3 else []
    kinds += [_denied]
    while True:
        edit = rng.choice(kinds)(to, rng)
        if edit is not None:
            return edit


# --- the record ---


def _leaves(value: Any, name: str = "") -> list[str]:
    """The paths of all plain values."""
    if isinstance(value, dict) and value:
        return [leaf for key, one in value.items() for leaf in _leaves(one, f"{name}.{key}" if name else key)]
    if isinstance(value, list) and value:
        return [leaf for key, one in enumerate(value) for leaf in _leaves(one, f"{name}.{key}")]
    return [name]


def _at(document: Any, path: str) -> tuple[Any, Any]:
    """The container and the key of a path."""
    *above, last = path.split(".")
    for key in above:
        document = document[int(key) if isinstance(document, list) else key]
    return document, int(last) if isinstance(document, list) else last


def _other(value: Any, rng: random.Random) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + rng.choice([1, 2, 10])
    if isinstance(value, float):
        return value * rng.choice([0.5, 0.9, 1.1]) if value else 0.25
    if isinstance(value, str):
        return {"1/10": "1/2", "linf": "l2", "gradients": "scores"}.get(
            value, value[::-1] if value[::-1] != value else "?"
        )
    return {None: 7}.get(value, ["forged"]) if not isinstance(value, (list, dict)) else ["forged"]


def _read(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return document


def _record(folder: Path, rng: random.Random) -> Edit | None:
    """One field of the record, and nothing else."""
    document = _read(folder)
    paths = [path for path in _leaves(document) if not path.startswith((*OPEN_FIELDS, "findings"))]
    path = rng.choice([*paths, *(["findings"] if document["findings"] else [])])
    container, key = _at(document, path)
    before = container[key]
    container[key] = [] if path == "findings" else _other(before, rng)
    (folder / "record.json").write_text(json.dumps(document))
    return Edit(f"record: {path} from {before!r} to {container[key]!r}", "verify")


def _setting(folder: Path, rng: random.Random) -> Edit | None:
    """A setting of what was run, with the key made that of the forged settings."""
    document = _read(folder)
    path = rng.choice([path for path in _leaves(document) if path.startswith(SETTINGS)])
    container, key = _at(document, path)
    before = container[key]
    if isinstance(before, (list, dict)) or path == "suite":
        return None
    container[key] = _other(before, rng) if before is not None else 7
    try:
        document["key"] = cell_key(Record.model_validate(document))
    except ValueError:
        return None
    (folder / "record.json").write_text(json.dumps(document))
    return Edit(f"settings and key: {path} from {before!r} to {container[key]!r}", "nothing")


# --- the arrays ---


def _mend(folder: Path) -> None:
    """Make counts, metrics, audit, cost, sizes and hashes those of the arrays."""
    document = _read(folder)
    outcomes = Outcomes.load(folder / OUTCOMES)
    threat, audit = document["threat"], document["audit"]
    left = AuditCounts(*(audit[name] for name in ("outside_ball", "outside_box", "outside_region", "non_finite")))
    document["counts"] = counts_of(outcomes).model_dump()
    with contextlib.suppress(ValueError):  # a broken example at no distance has no audit
        document["audit"] = audit_of(outcomes, threat["norm"], left).model_dump()
    document["cost"] |= {"forwards": int(outcomes.forwards.sum()), "backwards": int(outcomes.backwards.sum())}
    metrics = measure([component("metric", described) for described in document["measured_by"]], outcomes)
    document["metrics"] = [metric.model_dump() for metric in metrics]
    for file in document["files"]:
        path = folder / file["path"]
        file |= {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    (folder / "record.json").write_text(json.dumps(document))


def _state(o: dict[str, Tensor], row: int) -> str:
    if not o["attacked"][row]:
        return "spared"
    return "adversarial" if o["adversarial"][row] else "resisted"


def _column(folder: Path, rng: random.Random) -> Edit | None:
    """One value of one column."""
    o = load_file(folder / OUTCOMES)
    name, row = rng.choice(sorted(o)), rng.randrange(len(o["ids"]))
    values, state = o[name], _state(o, row)
    if values.dtype == torch.bool:
        values[row] = ~values[row]
    elif values.dtype == torch.int64:
        values[row] = (values[row] + rng.choice([1, 2, 3])) % (
            10 if name.endswith(("label", "predicted")) or name == "y" else 10**6
        )
    else:
        values[row] = (
            rng.choice([0.5, 0.9, 1.2]) * float(values[row]) if values[row].isfinite() and values[row] else 0.3
        )
        if name == "confidence":
            values[row] = values[row].clamp(0.0, 1.0)
        if name in ("confidence", "clean_suspicion", "adv_suspicion") and (
            state != "adversarial" and abs(float(values[row]) - float(load_file(folder / OUTCOMES)[name][row])) < 0.01
        ):
            return None
    save_file(o, folder / OUTCOMES)
    _mend(folder)
    return Edit(f"outcomes: {name} of a {state} example", _proof_of_column(name, state, _read(folder)))


def _proof_of_column(name: str, state: str, document: dict[str, Any]) -> str:
    """The proof that must notice a changed value of a column."""
    if name in ("forwards", "backwards", "zero_gradient", "bad_gradient"):
        return "verify" if state == "spared" else "again"
    if name == "certified":
        return "verify" if state == "spared" or not document["certifiers"] else "nothing"  # proved on a sample
    if state == "resisted":
        if name in ("confidence", "adv_predicted", "adv_suspicion") or (
            name == "excess" and document["attack"]["minimal"]
        ):
            return "again"
        if name in ("adv_label", "robust_top5") and document["threat"]["targeted"]:
            return "again"
    return "verify"


def _witness(folder: Path, rng: random.Random) -> Edit | None:
    """A candidate, an id or the number of the witness."""
    found = load_file(folder / WITNESS)
    ids, x = found["ids"], found["x_adv"]
    if len(ids) < 2:
        return None
    row = rng.randrange(len(ids))
    kind = rng.choice(["feature", "feature", "clean", "id", "dropped", "swapped", "infinite"])
    if kind == "feature":
        flat = x[row].view(-1)
        at = rng.randrange(len(flat))
        flat[at] = float(flat[at]) + (0.05 if float(flat[at]) < 0.5 else -0.05)
    elif kind == "clean":
        x[row] = 0.5
    elif kind == "id":
        ids[row] = int(ids[row]) + 10**6
    elif kind == "dropped":
        ids, x = ids[1:], x[1:]
    elif kind == "swapped":
        other = (row + 1) % len(ids)
        x[[row, other]] = x[[other, row]]
    else:
        x[row].view(-1)[0] = torch.inf
    save_file({"ids": ids.clone(), "x_adv": x.clone()}, folder / WITNESS)
    _mend(folder)
    return Edit(f"witness: {kind}", "verify")


def _file(folder: Path, rng: random.Random) -> Edit | None:
    """A bit of the gallery or of the mask."""
    names = [p.name for p in folder.iterdir() if p.name in ("gallery.safetensors", "mask.safetensors")]
    if not names:
        return None
    name = rng.choice(sorted(names))
    found = load_file(folder / name)
    array = rng.choice(sorted(found))
    flat = found[array].view(-1)
    at = rng.randrange(len(flat))
    flat[at] = ~flat[at] if flat.dtype == torch.bool else flat[at] + 1
    save_file(found, folder / name)
    _mend(folder)
    return Edit(f"{name}: {array}", "verify")


def _denied(folder: Path, rng: random.Random) -> Edit | None:
    """A broken example is said to have resisted, and its witness is gone: nothing is left that speaks of it."""
    o, found = load_file(folder / OUTCOMES), load_file(folder / WITNESS)
    rows = o["adversarial"].nonzero().flatten().tolist()
    if not rows or _read(folder)["threat"]["goal"] == "all":
        return None
    row = rng.choice(rows)
    for name in ("adversarial", "broken"):
        o[name][row] = False
    for name in ("l0", "l1", "l2", "linf"):
        o[name][row] = torch.inf
    o["adv_label"][row] = o["y"][row]
    o["robust_top5"][row], o["excess"][row] = True, 0.0
    kept = found["ids"] != o["ids"][row]
    save_file({"ids": found["ids"][kept].clone(), "x_adv": found["x_adv"][kept].clone()}, folder / WITNESS)
    save_file(o, folder / OUTCOMES)
    document = _read(folder)
    document["files"] = [file for file in document["files"] if file["path"] != "gallery.safetensors"]
    (folder / "record.json").write_text(json.dumps(document))
    _mend(folder)
    return Edit("outcomes and witness: a broken example is said to have resisted", "again")
