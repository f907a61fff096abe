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
    "load",
    "misnamed",
    "name_of",
    "names",
    "owner_of",
    "settings",
]
