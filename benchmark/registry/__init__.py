"""Installed plugins: listing, loading and their declarations."""

from benchmark.api import KINDS, LISTS
from benchmark.registry.calls import calling, owners
from benchmark.registry.checks import SUPPORTS, check_version
from benchmark.registry.entry_points import DISTRIBUTION, Declared
from benchmark.registry.installed import (
    blamed,
    declared,
    distribution_of,
    find,
    load,
    misnamed,
    name_of,
    names,
    owner_of,
    settings,
    unreadable,
)
from benchmark.registry.origin import harness_version, source_stamps

__all__ = [
    "DISTRIBUTION",
    "KINDS",
    "LISTS",
    "SUPPORTS",
    "Declared",
    "blamed",
    "calling",
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
    "owners",
    "settings",
    "source_stamps",
    "unreadable",
]
