"""Compact form of published cells: the outcomes that a leaderboard needs, one bit per example and boolean.

========================  ========================================================================================
SUITE/KEY/                record.json, unchanged; packed.safetensors instead of the outcomes; packed.json, which
                          lists these files and the URLs of the record's other files
SUITE/examples-*          ids and labels of an example list, once for all cells that share it
========================  ========================================================================================

Ten thousand examples take 1.25 kB per boolean, 11.25 kB for all nine, and 4 bytes for each adversarial candidate: its
exact measured distance, so that packed cells give the same site byte for byte.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from benchmark.errors import RecordError
from benchmark.records.durable import file_sha256
from benchmark.records.migrations import Step, migrated
from benchmark.records.record import FileInfo, Record

__all__ = ["ARRAYS", "BITS", "DOCUMENT", "SCHEMA_VERSION", "WRONG", "Link", "Packed", "bits_of", "examples_name",
           "packed_arrays", "read_document", "unpacked"]  # fmt: skip

DOCUMENT = "packed.json"
ARRAYS = "packed.safetensors"
SCHEMA_VERSION = 1
STEPS: dict[int, Step] = {}
"""Migration of `packed.json` from each version to the next, as for records: see `benchmark.records.migrations`."""

BITS = ("adversarial", "attacked", "bad_gradient", "broken", "clean_correct", "clean_top5", "robust_top5", "valid",
        "zero_gradient")  # fmt: skip
WRONG = ("clean_wrong", "attacked_wrong")
"""Booleans of systems with detectors: the classifier alone misclassifies the clean input, and the attacked one."""
DISTANCE = "distance"
CERTIFIED = "certified"


class Link(FileInfo):
    """A file of the record that is stored elsewhere. url: https only; bytes and sha256 as in the record."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str = Field(max_length=500, pattern=r"^https://[A-Za-z0-9._~:/?#@!&*+,;=%-]+$")


class Packed(BaseModel):
    """Document beside a packed record. record_sha256: of that record, so that the two cannot diverge.

    examples: file with ids and labels, one folder up. arrays: file in place of the outcomes. links: the record's other
    files that are stored elsewhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Literal[1] = 1
    key: str
    record_sha256: str
    arrays: FileInfo
    examples: FileInfo
    links: tuple[Link, ...] = ()


def examples_name(record: Record) -> str:
    """Name of the file, beside the cells, with the record's example list."""
    return f"examples-{record.examples_sha256[:24]}.safetensors"


def packed_arrays(record: Record, outcomes: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Arrays of the packed form.

    Returns:
        (ceil(N / 8),) uint8 for each name of `BITS`, the first example in the highest bit; `distance`: (M,) float32
        of the M adversarial candidates in the threat's norm; `certified`: (N,) float32, if anything was certified; for
        systems with detectors `clean_suspicion` and `adv_suspicion`, (N,) float32, and the bits of `WRONG`.
    """
    made: dict[str, NDArray[Any]] = {name: np.packbits(outcomes[name]) for name in BITS}
    made[DISTANCE] = outcomes[record.threat.norm][outcomes["adversarial"]]
    if outcomes[CERTIFIED].any():
        made[CERTIFIED] = outcomes[CERTIFIED]
    if "clean_suspicion" in outcomes:
        made.update({name: outcomes[name] for name in ("clean_suspicion", "adv_suspicion")})
        for name, answer in zip(WRONG, ("clean_predicted", "adv_predicted"), strict=True):
            made[name] = np.packbits(outcomes[answer] != outcomes["y"])
    return made


def read_document(folder: Path) -> Packed | None:
    """Document of the packed cell in `folder`; None if it is not packed.

    Raises:
        RecordError: if it is malformed, or belongs to another record than the one beside it.
    """
    path = folder / DOCUMENT
    if not path.is_file():
        return None
    place = f"{folder.name}/{DOCUMENT}"
    try:
        found = Packed.model_validate(migrated(json.loads(path.read_bytes()), SCHEMA_VERSION, STEPS))
    except RecordError as error:
        raise RecordError(f"{place} cannot be read: {error}") from error
    except ValidationError as error:
        raise RecordError(f"{place} cannot be read: {error.errors()[0]['msg']}") from error
    except (ValueError, AttributeError) as error:
        raise RecordError(f"{place} cannot be read: {error}; expected a JSON object") from error
    if found.record_sha256 != file_sha256(folder / "record.json"):
        raise RecordError(f"{place} does not belong to the record.json beside it")
    return found


def unpacked(record: Record, folder: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Named arrays as in the outcomes: booleans of `BITS`, `certified`, distances in the threat's norm.

    Also `ids` and `y`, or labels of `sites`, from the example list.

    Raises:
        RecordError: if the file is malformed, or has another number of examples than the record.
        FileNotFoundError: if it is missing.
    """
    assert record.counts is not None
    total = record.counts.total
    try:
        with safe_open(folder / ARRAYS, framework="numpy") as file:
            known = file.keys()
            found: dict[str, NDArray[Any]] = {}
            for name in names:
                if name in BITS:
                    found[name] = bits_of(file.get_tensor(name), total, name)
                elif name == CERTIFIED:
                    found[name] = file.get_tensor(name) if name in known else np.zeros(total, np.float32)
                elif name == record.threat.norm:
                    found[name] = _distances(
                        file.get_tensor(DISTANCE), bits_of(file.get_tensor("adversarial"), total, "adversarial")
                    )
        wanted = [name for name in names if name in ("ids", "y", "sites")]
        if wanted:
            with safe_open(folder.parent / examples_name(record), framework="numpy") as file:
                found.update({name: file.get_tensor(name) for name in wanted})
    except SafetensorError as error:
        raise RecordError(f"{folder.name}/{ARRAYS} cannot be read: {error}") from error
    return {name: found[name] for name in names}


def bits_of(packed: NDArray[Any], total: int, name: str) -> NDArray[np.bool_]:
    """Unpack the booleans of the examples, (N,) bool.

    Raises:
        RecordError: if their number is not `total`.
    """
    if packed.dtype != np.uint8 or packed.shape != (math.ceil(total / 8),):
        raise RecordError(
            f"{name} in {ARRAYS} is {packed.dtype} {list(packed.shape)}; expected uint8 [{math.ceil(total / 8)}]"
        )
    bits = np.unpackbits(packed)
    if total % 8 and bits[total:].any():
        raise RecordError(f"{name} in {ARRAYS} has more than {total} examples")
    return bits[:total].view(np.bool_)


def _distances(known: NDArray[Any], adversarial: NDArray[np.bool_]) -> NDArray[np.float32]:
    at = np.flatnonzero(adversarial)
    if known.dtype != np.float32 or known.shape != at.shape:
        raise RecordError(f"{DISTANCE} in {ARRAYS} is {known.dtype} {list(known.shape)}; expected float32 [{len(at)}]")
    found = np.full(len(adversarial), np.inf, np.float32)
    found[at] = known
    return found
