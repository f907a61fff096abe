"""Earlier releases of a site: the file `releases.json` beside the published results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from benchmark.errors import RecordError

from ..cells.texts import checked_json

__all__ = ["RELEASES", "read_releases"]

RELEASES = "releases.json"


class Release(BaseModel):
    """One release. name: such as 0.1. url: of its site; https only."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9_. -]+$")
    url: str = Field(max_length=300, pattern=r"^https://[A-Za-z0-9._~:/?#@!&*+,;=%-]+$")


Releases = Annotated[list[Release], Field(max_length=200)]


def read_releases(results: Sequence[Path]) -> tuple[tuple[str, str], ...]:
    """(name, URL) of each earlier release, in the order of the first file found.

    Raises:
        RecordError: if it is not a list of objects with a name and an https URL.
    """
    file = next((folder / RELEASES for folder in results if (folder / RELEASES).is_file()), None)
    if file is None:
        return ()
    try:
        found = TypeAdapter(Releases).validate_python(checked_json(file.read_bytes(), RELEASES))
    except (ValidationError, RecordError) as error:
        raise RecordError(
            f"{RELEASES} is not a list of releases, each with a name and an https address as `url`: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return tuple((release.name, release.url) for release in found)
