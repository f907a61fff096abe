"""The record of a cell, and the card of a system: the product. Everything else is a view of them.

Numbers are numbers, counts are counts, and nothing here imports torch: reading records is cheap. A record that an
uninterrupted run writes and one that an interrupted run writes are the same bytes, apart from `provenance` and from
`cost.seconds` and `cost.peak_memory_bytes`.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from benchmark.errors import RecordError
from benchmark.records import naming
from benchmark.records.durable import flush
from benchmark.records.migrations import migrated
from benchmark.tasks.task import CLASSIFICATION
from benchmark.threat import Norm

__all__ = [
    "GIVEN",
    "KEY_SHOWN",
    "SCHEMA_VERSION",
    "AttackInfo",
    "Audit",
    "Card",
    "Cost",
    "Counts",
    "FileInfo",
    "Finding",
    "MetricValue",
    "Record",
    "SplitInfo",
    "Status",
    "SystemInfo",
    "ThreatInfo",
    "cell_key",
    "content_key",
    "file_sha256",
    "read_record",
    "system_key",
    "write_atomic",
]

SCHEMA_VERSION = 1

KEY_SHOWN = 8
"""The characters of a key that people are shown."""

Status = Literal["complete", "failed", "refused"]
Json = dict[str, Any]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SystemInfo(_Model):
    """The evaluated system. `config` holds every setting of dataset, model, defenses, poison and training."""

    key: str
    dataset: str
    model: str
    defenses: list[str]
    poison: list[str]
    config: Json

    @property
    def name(self) -> str:
        """dataset/model+defense+..., for people."""
        dataset, model = (naming.own_name(name, self._params(kind)) for name, kind in
                          ((self.dataset, "dataset"), (self.model, "model")))  # fmt: skip
        return naming.system_name(dataset, model, [*self.defenses, *self.poison])

    @property
    def model_name(self) -> str:
        """The model's plugin, and what it runs of its library: sklearn SVC."""
        return naming.variant_name(self.model, self._params("model"))

    @property
    def brings_code(self) -> bool:
        """True if any part of it is code of the user's own: a model of a file, or behind an endpoint."""

        def found(value: Any) -> bool:
            if isinstance(value, dict):
                params = value.get("params")
                names = {"file": "factory", "http": "url"}
                own = isinstance(params, dict) and names.get(str(value.get("name"))) in params
                return own or any(found(one) for one in value.values())
            return isinstance(value, list) and any(found(one) for one in value)

        return found(self.config)

    def _params(self, kind: str) -> Json:
        described = self.config.get(kind)
        params = described.get("params") if isinstance(described, dict) else None
        return params if isinstance(params, dict) else {}


def _known_norm(name: str) -> str:
    if name not in NORM_NAMES:
        raise ValueError(f"{name!r} is no norm; expected one of {', '.join(NORM_NAMES)}")
    return name


NORM_NAMES = [norm.value for norm in Norm]
NormName = Annotated[str, AfterValidator(_known_norm), WithJsonSchema({"enum": NORM_NAMES, "type": "string"})]
"""The name of a norm."""


class ThreatInfo(_Model):
    """The threat; eps in units of the [0, 1] input range. levels: number of values of a changed feature, if limited."""

    norm: NormName
    eps: float = Field(ge=0)
    eps_exact: str
    access: Literal["gradients", "scores", "labels", "transfer"]
    aware: bool
    targeted: bool
    goal: str
    region: str
    queries: int | None
    eot: int
    surrogate: str = ""
    levels: int | None = None

    @property
    def name(self) -> str:
        """Norm and radius, and what else is unusual: 'linf 1/10 oblivious least_likely square:3 500 queries'."""
        unusual = [] if self.aware else ["oblivious"]
        unusual += [] if self.goal == "untargeted" else [self.goal]
        unusual += [] if self.region == "full" else [self.region]
        unusual += [] if self.queries is None else [f"{self.queries} queries"]
        unusual += [] if self.levels is None else [f"{self.levels} levels"]
        held = self.surrogate.split(",") if self.surrogate else []
        unusual += [f"from {', '.join(key[:KEY_SHOWN] for key in held)}"] if held else []
        return " ".join([self.norm, self.eps_exact, *unusual])


class AttackInfo(_Model):
    """The attack with every parameter. minimal: it looks for the smallest perturbation. bounded: it answers to the
    threat's norm; what another one finds is judged by box and region alone."""

    name: str
    params: Json
    distribution: str
    version: str
    minimal: bool
    randomized: bool
    bounded: bool = True

    @property
    def label(self) -> str:
        """The attack, and what it runs of its library, for people: foolbox LinfPGD."""
        return naming.variant_name(self.name, self.params)


class Counts(_Model):
    """Numbers of examples. robust_correct: right on the clean input, validly attacked and not broken.

    spared: right, and not given to the attack, since cells that the record names had broken them.
    """

    total: int = Field(ge=0)
    clean_correct: int = Field(ge=0)
    robust_correct: int = Field(ge=0)
    clean_top5: int = Field(ge=0)
    robust_top5: int = Field(ge=0)
    invalid: int = Field(ge=0)
    spared: int = Field(default=0, ge=0)


class MetricValue(_Model):
    """One measured number with its 95 % interval; None where there is none."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    higher_is_better: bool | None


class Cost(_Model):
    """The passes of the attack over all attacked examples, and the time and memory of this cell's process.

    prepared_forwards, prepared_backwards: passes that it cost beforehand to make what all examples share, if anything.
    """

    forwards: int
    backwards: int
    seconds: float
    peak_memory_bytes: int
    prepared_forwards: int = 0
    prepared_backwards: int = 0


class Finding(_Model):
    """A standing check of the evaluation that fired."""

    name: str
    severity: Literal["info", "warning", "error"]
    evidence: str


class Audit(_Model):
    """The core's own look at the candidates of the attacked examples.

    max_distance: the largest distance of a candidate that counts as broken, in the threat's norm.
    """

    max_distance: float
    outside_ball: int
    outside_box: int
    outside_region: int
    non_finite: int
    max_excess: float | None


class GivenUp(_Model):
    """Attacked examples on which the attack ended with nothing found, though it might have asked on.

    examples: how many. asked: forward passes spent on them. left: how many more the query budget allowed for them; None
    where there is no budget, and the attack looks for the smallest perturbation at any distance.
    """

    examples: int = Field(ge=0)
    asked: int = Field(ge=0)
    left: int | None = Field(default=None, ge=0)


class SplitInfo(_Model):
    """The examples of a split: their number, and sha256 over ids and labels."""

    count: int
    sha256: str


class FileInfo(_Model):
    """A file beside the record."""

    path: str
    bytes: int
    sha256: str


class Record(_Model):
    """The JSON document of a cell.

    harness: the version of the code that made it, with a digest where that is no release; "" in records of 0.1, whose
    keys were made otherwise. certifiers, measured_by: the plugins, each as name, distribution, version and params.
    examples: number of the first test examples that were asked for; None for all.
    fitted_on: the attacks whose examples each detector of the system was fitted on, by the detector's name; an empty
    list stands for clean examples alone. A detector has seen the cell's attack if its name is among them.
    survivors_of: keys of the cells, of the same system and threat, whose broken examples the attack was not given;
    empty where it was given all. Its counts then tell what is left after all of them.
    path: number of examples that each part of the attack broke, for an attack of several parts.
    task: what is answered about an example; left out of the file where that is one label.
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
        """The cell, for people."""
        return naming.cell_name(self.system.name, self.attack.label, self.threat.name, self.seed)

    def metric(self, name: str) -> MetricValue | None:
        """The measurement of that name, if it was taken."""
        return next((m for m in self.metrics if m.name == name), None)


class RowsLost(_Model):
    """Training rows of one label that a defense removed.

    rows: before it. poisoned: how many of them a poison had touched. removed: how many it took. poisoned_removed: how
    many of these a poison had touched.
    """

    rows: int = Field(ge=0)
    poisoned: int = Field(ge=0)
    removed: int = Field(ge=0)
    poisoned_removed: int = Field(ge=0)


class Card(_Model):
    """A trained system: its parts, its data and its training.

    select_accuracy, test_accuracy: clean top-1 of the deployed system; the counts make intervals possible.
    selected_epoch: the epoch whose weights were kept; robust_selection: its accuracy under attack, if that chose it.
    thresholds: of detectors, by defense name: the score above which they refuse, and the spread of clean scores.
    fitted_on: the attacks whose examples each detector was fitted on; an empty list for clean examples alone.
    poison_sha256: of the file beside the weights that holds the poisoned rows; empty without poison.
    rows_lost: per label, by the name of each defense that took rows from the training split.
    sha256: of all other fields, against bits that flip on disk; empty in cards of earlier versions.
    """

    schema_version: Literal[1] = 1
    key: str
    system: SystemInfo
    seed: int
    init_from: str | None
    dataset_revision: str
    splits: dict[str, SplitInfo]
    splits_disjoint: bool | None
    train_examples: int
    poisoned_examples: int
    poison_sha256: str = ""
    rows_lost: dict[str, list[RowsLost]] = {}
    epochs_run: int
    selected_epoch: int | None
    robust_selection: float | None
    select_correct: int
    select_total: int
    test_correct: int
    test_total: int
    thresholds: dict[str, list[float]] = {}
    fitted_on: dict[str, list[str]] = {}
    warnings: list[str] = []
    parameters: int
    weights_sha256: str
    history: list[dict[str, float]] = []
    seconds: float
    provenance: Json = {}
    sha256: str = ""

    def sealed(self) -> Card:
        """The card with its checksum."""
        text = canonical(self.model_dump(mode="json", exclude={"sha256"}))
        return self.model_copy(update={"sha256": hashlib.sha256(text.encode()).hexdigest()})


def canonical(value: Any) -> str:
    """JSON text that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def system_key(config: Json, seed: int, revision: str) -> str:
    """The content address of a trained system, from what its record says: settings, seed and revision of the data."""
    return content_key({"system": config, "seed": seed, "data": revision})


def cell_key(record: Record) -> str:
    """The content address of a cell, from what its record says."""
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


def content_key(value: Any) -> str:
    """24 hexadecimal digits that name a configuration by its content."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:24]


def file_sha256(path: Path) -> str:
    """The checksum of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old content or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with temporary.open("x", encoding="utf-8") as stream:  # the umask decides who may read it
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        flush(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def to_text(document: BaseModel) -> str:
    """The JSON text of a record or card: sorted keys, two spaces, a newline at the end."""
    values = document.model_dump(mode="json")
    if values.get("task") == CLASSIFICATION:  # as in records that were made before there were other tasks
        del values["task"]
    return json.dumps(values, sort_keys=True, indent=2, allow_nan=False) + "\n"


def read_record(path: Path) -> Record:
    """Read a `record.json`, or the one in a cell's folder.

    Raises:
        RecordError: if it is missing, is no JSON, or is not a record of a known version.
    """
    file = path
    try:
        file = path / "record.json" if path.is_dir() else path
        return _parsed(file.read_bytes())
    except OSError as error:
        raise RecordError(f"no record can be read at {file}: {error.strerror}") from error
    except RecordError as error:
        raise RecordError(f"{file} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise RecordError(
            f"{file} is not a record of schema version {SCHEMA_VERSION}: {place}: {first['msg']}"
        ) from error


def _parsed(content: bytes) -> Record:
    """A record of the current version at once, one of another version by way of its migrations."""
    try:
        return Record.model_validate_json(content)
    except ValidationError as error:
        if not any(fault["loc"] == ("schema_version",) for fault in error.errors(include_url=False)):
            raise
    return Record.model_validate(migrated(json.loads(content), SCHEMA_VERSION))


GIVEN = "given_examples"
"""The name of the attack in a record of given candidates (`benchmark add-examples`): there is no such plugin."""
