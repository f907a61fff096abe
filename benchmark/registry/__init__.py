"""Installed plugins: which there are, how one is loaded, and what it declares."""

from benchmark.registry.installed import (
    DISTRIBUTION,
    KINDS,
    LISTS,
    SUPPORTS,
    Declared,
    blamed,
    check_version,
    declared,
    distribution_of,
    find,
    load,
    misnamed,
    name_of,
    names,
    owner_of,
    settings,
)
from benchmark.registry.origin import harness_version, source_stamps

__all__ = [
    "DISTRIBUTION",
    "KINDS",
    "LISTS",
    "SUPPORTS",
    "Declared",
    "blamed",
    "check_version",
    "declared",
    "distribution_of",
    "find",
    "harness_version",
    "load",
    "misnamed",
    "name_of",
    "names",
    "owner_of",
    "settings",
    "source_stamps",
]
