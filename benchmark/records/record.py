"""The record of a cell: the product, of which everything else is a view.

Numbers are numbers, counts are counts, and reading records imports no torch. An interrupted and resumed run writes the
same bytes as an uninterrupted one, apart from `provenance`, `cost.seconds` and `cost.peak_memory_bytes`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from benchmark.errors import RecordError
from benchmark.records import naming
from benchmark.records.described import AttackInfo, SystemInfo, ThreatInfo
from benchmark.records.document import Document, Json, content_key
from benchmark.records.migrations import migrated
from benchmark.tasks.task import CLASSIFICATION

__all__ = [
    "GIVEN",
    "SCHEMA_VERSION",
    "Audit",
    "Cost",
    "Counts",
    "FileInfo",
    "Finding",
    "GivenUp",
    "MetricValue",
    "Record",
    "SplitInfo",
    "Status",
    "cell_folders",
    "cell_key",
    "read_record",
]

SCHEMA_VERSION = 1

Status = Literal["complete", "failed", "refused"]


class Counts(Document):
    """Numbers of examples. robust_correct: correct on the clean input, validly attacked and not broken.

    spared: correct, but not given to the attack, since cells named in the record had broken them.
    """

    total: int = Field(ge=0)
    clean_correct: int = Field(ge=0)
    robust_correct: int = Field(ge=0)
    clean_top5: int = Field(ge=0)
    robust_top5: int = Field(ge=0)
    invalid: int = Field(ge=0)
    spared: int = Field(default=0, ge=0)


class MetricValue(Document):
    """A measured number with its 95 % interval; None if there is none."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    higher_is_better: bool | None


class Cost(Document):
    """Passes of the attack over all attacked examples, and the time and memory of this cell's process.

    prepared_forwards, prepared_backwards: passes of the preparation that all examples share, if any.
    """

    forwards: int
    backwards: int
    seconds: float
    peak_memory_bytes: int
    prepared_forwards: int = 0
    prepared_backwards: int = 0


class Finding(Document):
    """A standing check of the evaluation that fired."""

    name: str
    severity: Literal["info", "warning", "error"]
    evidence: str


class Audit(Document):
    """The core's own check of the candidates of the attacked examples.

    max_distance: largest distance of a broken example's candidate, in the threat's norm.
    """

    max_distance: float
    outside_ball: int
    outside_box: int
    outside_region: int
    non_finite: int
    max_excess: float | None


class GivenUp(Document):
    """Attacked examples on which the attack ended without success, although it could have continued.

    examples: their number. asked: forward passes spent on them. left: further passes that the query budget allowed;
    None for a minimal attack without a budget.
    """

    examples: int = Field(ge=0)
    asked: int = Field(ge=0)
    left: int | None = Field(default=None, ge=0)


class SplitInfo(Document):
    """The examples of a split: their number, and sha256 over ids and labels."""

    count: int
    sha256: str


class FileInfo(Document):
    """A file beside the record."""

    path: str
    bytes: int
    sha256: str


class Record(Document):
    """The JSON document of a cell.

    harness: version of the code that made it, with a digest if it is not a release; "" in records of 0.1, whose keys
    were computed differently. certifiers, measured_by: the plugins, each as name, distribution, version and params.
    examples: requested number of test examples; None for all.
    fitted_on: the attacks whose examples each detector of the system was fitted on, by the detector's name; an empty
    list for clean examples alone. A detector has seen the cell's attack if its name is among them.
    survivors_of: keys of cells of the same system and threat; the attack skipped the examples that they broke. Empty if
    it was given all; otherwise its counts are joint over all of them.
    path: number of examples broken by each part of an attack with several parts.
    task: what the system predicts; omitted from the file for classification.
    """

    schema_version: Literal[1] = 1
    key: str
    task: str = CLASSIFICATION
    status: Status
    error: str | None = None
    suite: str | None
    official: bool
    seed: int
    harness: str = ""
    system: SystemInfo
    threat: ThreatInfo
    attack: AttackInfo
    certifiers: list[Json] = []
    measured_by: list[Json] = []
    examples: int | None = None
    survivors_of: list[str] = []
    fitted_on: dict[str, list[str]] = {}
    counts: Counts | None = None
    metrics: list[MetricValue] = []
    cost: Cost | None = None
    audit: Audit | None = None
    given_up: GivenUp | None = None
    path: dict[str, int] = {}
    findings: list[Finding] = []
    splits: dict[str, SplitInfo] = {}
    splits_disjoint: bool | None = None
    dataset_revision: str = ""
    examples_sha256: str = ""
    weights_sha256: str = ""
    files: list[FileInfo] = []
    provenance: Json = {}

    @property
    def name(self) -> str:
        """Display name of the cell."""
        return naming.cell_name(self.system.name, self.attack.label, self.threat.name, self.seed)

    def metric(self, name: str) -> MetricValue | None:
        """Measurement of that name, None if it was not taken."""
        return next((m for m in self.metrics if m.name == name), None)


def cell_key(record: Record) -> str:
    """Content address of a cell, from its record."""
    return content_key(
        {
            "harness": record.harness,
            "system": record.system.key,
            "threat": record.threat.model_dump(mode="json", exclude_defaults=True),
            "attack": record.attack.model_dump(mode="json", exclude_defaults=True),
            "certifiers": record.certifiers,
            "metrics": record.measured_by,
            "examples": record.examples,
            "seed": record.seed,
            "suite": record.suite,
            "official": record.official,
            **({"survivors_of": record.survivors_of} if record.survivors_of else {}),
        }
    )


def cell_folders(paths: Sequence[Path]) -> list[Path]:
    """Folders with a record at or below the paths, sorted.

    Raises:
        RecordError: if there is none.
    """
    folders = sorted({file.parent for path in paths for file in path.rglob("record.json")})
    if not folders:
        raise RecordError(f"no record.json under {', '.join(map(str, paths))}; expected cells or folders of cells")
    return folders


def read_record(path: Path) -> Record:
    """Read a `record.json`, given by itself or by its cell's folder.

    Raises:
        RecordError: if it is missing, is not JSON, or is not a record of a known version.
    """
    file = path
    try:
        file = path / "record.json" if path.is_dir() else path
        return _parsed(file.read_bytes())
    except OSError as error:
        raise RecordError(f"cannot read a record at {file}: {error.strerror}") from error
    except RecordError as error:
        raise RecordError(f"{file} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise RecordError(
            f"{file} is not a record of schema version {SCHEMA_VERSION}: {place}: {first['msg']}"
        ) from error


def _parsed(content: bytes) -> Record:
    """Parse a record: directly if of the current version, otherwise through its migrations."""
    try:
        return Record.model_validate_json(content)
    except ValidationError as error:
        if not any(fault["loc"] == ("schema_version",) for fault in error.errors(include_url=False)):
            raise
    return Record.model_validate(migrated(json.loads(content), SCHEMA_VERSION))


GIVEN = "given_examples"
"""Name of the attack in a record of given candidates (`benchmark add-examples`); not a plugin."""
