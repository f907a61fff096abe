"""Numbers from the literature as data: one JSON file per source, each with its citation.

Those of the package are in `published/`, those of a board in the folder `reported` beside its results.

They are shown beside measured rows, marked as published and not reproduced, and take no part in ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from benchmark.errors import RecordError
from benchmark.records.described import NormName

from ..cells.strict_json import strict_json
from ..cells.texts import check_texts

__all__ = [
    "Entry",
    "Number",
    "PublishedMetric",
    "PublishedProtocol",
    "Reading",
    "Source",
    "load_published",
    "read_reported",
    "read_source",
]

Reading = Literal["read", "abstract", "secondary"]
"""Origin of a number: read in the source, in its abstract, or quoted elsewhere and not found in the source."""

PublishedMetric = Literal[
    "clean_accuracy",
    "clean_top5_accuracy",
    "robust_accuracy",
    "robust_top5_accuracy",
    "attack_success",
    "detection_auroc",
    "corruption_accuracy",
    "corruption_error",
]


REPORTED = "reported"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Number(_Model):
    """One published number.

    value: share in [0, 1], as printed; only corruption_error is relative to a reference network and may exceed 1.
    count, total: number of examples, if known. attack: "" for clean data. place: table, section or page.
    settings: of the attack or the method, as given in the source.
    """

    metric: PublishedMetric
    value: float = Field(ge=0, le=1000)
    attack: str = ""
    count: int | None = Field(default=None, ge=0, le=10**9)
    total: int | None = Field(default=None, gt=0, le=10**9)
    settings: dict[str, str | int | float] = {}
    evidence: Reading = "read"
    place: str = ""
    note: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Number:
        if self.metric != "corruption_error" and self.value > 1:
            raise ValueError(f"{self.metric} is {self.value}; expected a share in [0, 1], not a percentage")
        if self.count is not None and (self.total is None or abs(self.count / self.total - self.value) > 1e-9):
            raise ValueError(f"{self.count} of {self.total} is not {self.value}")
        return self


class PublishedProtocol(_Model):
    """Conditions of published numbers. eps_exact: in units of the [0, 1] input range; both None without a ball."""

    dataset: str
    norm: NormName | None = None
    eps_exact: str | None = Field(default=None, pattern=r"^\d{1,9}(/[1-9]\d{0,8})?$")
    description: str

    @property
    def eps(self) -> float | None:
        """Radius as a float."""
        return None if self.eps_exact is None else float(Fraction(self.eps_exact))


class Entry(_Model):
    """A system with its numbers under one protocol.

    eps_exact: if the system was attacked with another radius than the protocol's. parameters: number of the model's
    parameters. flags: objections of the source to the entry, or its remarks about the kind of entry.
    """

    system: str
    protocol: str
    numbers: tuple[Number, ...] = Field(min_length=1)
    eps_exact: str | None = Field(default=None, pattern=r"^\d{1,9}(/[1-9]\d{0,8})?$")
    architecture: str = ""
    parameters: int | None = Field(default=None, ge=0, le=10**15)
    title: str = ""
    authors: str = ""
    venue: str = ""
    url: str = Field(default="", pattern=r"^(https://\S+)?$")
    flags: tuple[str, ...] = ()

    def number(self, metric: PublishedMetric, attack: str | None = None) -> Number | None:
        """Number of that metric, under that attack if one is given."""
        return next((n for n in self.numbers if n.metric == metric and attack in (None, n.attack)), None)


class Source(_Model):
    """A publication. key: name of its file. retrieved: revision that was read, if it has revisions."""

    schema_version: Literal[1] = 1
    key: str
    title: str
    authors: str
    year: int | None = Field(ge=1950, le=2100)
    url: str = Field(default="", pattern=r"^(https://\S+)?$")
    licence: str = ""
    retrieved: str = ""
    note: str = ""
    protocols: dict[str, PublishedProtocol]
    entries: tuple[Entry, ...]

    @model_validator(mode="after")
    def _known_protocols(self) -> Source:
        unknown = sorted({entry.protocol for entry in self.entries} - set(self.protocols))
        if unknown:
            raise ValueError(f"its entries name the protocols {unknown}, which it does not describe")
        return self


def read_source(file: Traversable) -> Source:
    """Read one file of `published/`.

    Raises:
        RecordError: naming the first fault.
    """
    try:
        document = strict_json(file.read_bytes(), file.name)
        source = Source.model_validate(document)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        if isinstance(error, ValidationError):
            fault = error.errors()[0]
            first = f"{'.'.join(str(part) for part in fault['loc']) or 'the document'}: {fault['msg']}"
        raise RecordError(f"{file.name} has no usable published numbers: {first}") from error
    check_texts(document, file.name)
    if file.name != f"{source.key}.json":
        raise RecordError(f"{file.name} has the key {source.key!r}; expected the name of the file")
    return source


def read_reported(results: Sequence[Path]) -> tuple[Source, ...]:
    """Sources in the folder `reported` beside published results, each of which becomes rows of the boards that it fits.

    Raises:
        RecordError: if a file is malformed or contains markup, or two sources have the same key.
    """
    found: dict[str, Source] = {source.key: source for source in load_published()}
    own = []
    for folder in (path / REPORTED for path in results if (path / REPORTED).is_dir()):
        for source in load_published(folder):
            if source.key in found:
                raise RecordError(
                    f"{folder / source.key}.json has the key of another source, {found[source.key].title!r}; rename it"
                )
            found[source.key] = source
            own.append(source)
    return tuple(own)


def load_published(folder: Traversable | None = None) -> tuple[Source, ...]:
    """Read every source of the folder (by default the one shipped with the leaderboard), by key."""
    folder = folder or files(__package__).joinpath("published")
    found = [file for file in folder.iterdir() if file.name.endswith(".json")] if folder.is_dir() else []
    return tuple(read_source(file) for file in sorted(found, key=lambda file: file.name))
