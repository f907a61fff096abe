"""The entry points of installed distributions that declare plugins, read from metadata alone."""

from __future__ import annotations

import functools
import importlib.metadata
from dataclasses import dataclass

from benchmark import GROUP

__all__ = ["DISTRIBUTION", "Declared", "scanned"]

DISTRIBUTION = "adversarial-benchmark"


@dataclass(frozen=True)
class Declared:
    """One entry point. requires: its distribution's version specifier for the harness, or ""."""

    kind: str
    name: str
    module: str
    distribution: str
    version: str
    requires: str = ""

    @property
    def full_name(self) -> str:
        """Full name, kind.name."""
        return f"{self.kind}.{self.name}"

    @property
    def named(self) -> str:
        """Full name and owner, for messages."""
        return f"{self.full_name} from {self.owner}"

    @property
    def owner(self) -> str:
        """Distribution and version, for messages."""
        return f"{self.distribution} {self.version}"


def _requirement(distribution: importlib.metadata.Distribution) -> str:
    """Version specifier of a distribution's requirement on the harness."""
    from packaging.requirements import InvalidRequirement, Requirement

    for text in distribution.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.name.replace("_", "-").lower() == DISTRIBUTION:
            return str(requirement.specifier)
    return ""


@functools.cache
def scanned() -> tuple[tuple[Declared, ...], tuple[str, ...]]:
    """Every entry point of the group, and a sentence for each distribution that cannot be read, both sorted."""
    found: set[Declared] = set()
    problems = []
    for distribution in importlib.metadata.distributions():
        try:
            found |= _points_of(distribution)
        except Exception as error:  # its file is not ours to mend, and nobody asked for it
            place = getattr(distribution, "_path", "an installed distribution")
            problems.append(
                f"the entry points in {place} cannot be read ({type(error).__name__}: {error}); its plugins are left "
                "out: reinstall it"
            )
    return tuple(sorted(found, key=lambda d: (d.kind, d.name, d.distribution, d.version))), tuple(sorted(problems))


def _points_of(distribution: importlib.metadata.Distribution) -> set[Declared]:
    """Entry points of the group that a distribution declares."""
    points = [p for p in distribution.entry_points if p.group == GROUP]
    if not points:
        return set()
    metadata = distribution.metadata  # parsed each time that it is asked for
    name, version = str(metadata["Name"]), str(metadata["Version"])
    requires = "" if name == DISTRIBUTION else _requirement(distribution)
    parts = ((point.name.partition("."), point.value) for point in points)
    return {Declared(kind, short, value, name, version, requires) for (kind, _, short), value in parts}
