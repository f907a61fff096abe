"""Aliases for the module names of version 0.1: an old import works, with a warning that has the line to write instead.

They are removed in version 0.3.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["attribute", "install"]

MODULES = {
    "benchmark.ball": "benchmark.threat.ball",
    "benchmark.attack": "benchmark.stages.attack",
    "benchmark.batch": "benchmark.stages.batch",
    "benchmark.catalogue": "benchmark.registry.catalogue",
    "benchmark.certify": "benchmark.stages.certify",
    "benchmark.devices": "benchmark.stages.devices",
    "benchmark.findings": "benchmark.stages.findings",
    "benchmark.fit": "benchmark.stages.fit",
    "benchmark.given": "benchmark.commands.add_examples",
    "benchmark.hookspecs": "benchmark.hooks.hookspecs",
    "benchmark.hydra_app": "benchmark.sweep.app",
    "benchmark.listing": "benchmark.commands.plugins",
    "benchmark.load": "benchmark.stages.load",
    "benchmark.measure": "benchmark.stages.measure",
    "benchmark.migrations": "benchmark.records.migrations",
    "benchmark.naming": "benchmark.records.naming",
    "benchmark.outcomes": "benchmark.records.outcomes",
    "benchmark.overrides": "benchmark.config.overrides",
    "benchmark.parts": "benchmark.stages.parts",
    "benchmark.prepare": "benchmark.stages.prepare",
    "benchmark.provenance": "benchmark.records.provenance",
    "benchmark.publish": "benchmark.hooks.events",
    "benchmark.quiet": "benchmark.stages.quiet",
    "benchmark.rebuild": "benchmark.stages.rebuild",
    "benchmark.record": "benchmark.records.record",
    "benchmark.references": "benchmark.system.references",
    "benchmark.region": "benchmark.threat.region",
    "benchmark.republish": "benchmark.commands.publish",
    "benchmark.run_help": "benchmark.commands.help",
    "benchmark.scaffold": "benchmark.commands.new",
    "benchmark.status": "benchmark.commands.status",
    "benchmark.store": "benchmark.records.store",
    "benchmark.suites": "benchmark.sweep.suites",
    "benchmark.surrogate": "benchmark.stages.surrogate",
    "benchmark.target": "benchmark.system.target",
    "benchmark.testing.linear": "benchmark.oracles.linear",
    "benchmark.testing.relu": "benchmark.oracles.relu",
    "benchmark.training": "benchmark.stages.training",
    "benchmark.transfer": "benchmark.commands.transfer",
    "benchmark.trial_import": "benchmark.registry.trial",
    "benchmark.verify": "benchmark.stages.judge",
    "benchmark.verify_records": "benchmark.commands.verify",
    "benchmark.weights": "benchmark.system.weights",
    "benchmark.world": "benchmark.stages.world",
}
"""New place of each module of 0.1."""

NOW_PACKAGES = {
    "benchmark.config": ("schema", "cell", "resolve", "check"),
    "benchmark.registry": ("installed",),
    "benchmark.sweep": ("matrix",),
    "benchmark.system": ("system",),
    "benchmark.threat": ("threat", "kinds"),
}
"""Modules of 0.1 that are packages now, with the modules that define their names."""

NAMES = {
    "benchmark.findings.across": "benchmark.records.findings",
    "benchmark.hydra_app.PluginSource": "benchmark.config.source",
    "benchmark.hydra_app.inner_kinds": "benchmark.config.structured",
    "benchmark.hydra_app.structured": "benchmark.config.structured",
    "benchmark.load.poison": "benchmark.stages.poison",
    "benchmark.measure.counts": "benchmark.records.build",
    "benchmark.publish.Observers": "benchmark.hooks.observers",
    "benchmark.record.AttackInfo": "benchmark.records.described",
    "benchmark.record.Card": "benchmark.records.card",
    "benchmark.record.SystemInfo": "benchmark.records.described",
    "benchmark.record.ThreatInfo": "benchmark.records.described",
    "benchmark.record.canonical": "benchmark.records.document",
    "benchmark.record.content_key": "benchmark.records.document",
    "benchmark.record.file_sha256": "benchmark.records.durable",
    "benchmark.record.system_key": "benchmark.records.document",
    "benchmark.record.to_text": "benchmark.records.document",
    "benchmark.record.write_atomic": "benchmark.records.durable",
    "benchmark.region.salient": "benchmark.stages.settle",
    "benchmark.run.CellPlan": "benchmark.hooks.events",
    "benchmark.transfer.Arrivals": "benchmark.records.arrivals",
    "benchmark.transfer.Pair": "benchmark.records.arrivals",
    "benchmark.transfer.read_arrivals": "benchmark.records.arrivals",
    "benchmark.verify_records.GIVEN": "benchmark.records.record",
    "benchmark.verify_records.checked_outcomes": "benchmark.stages.replay",
    "benchmark.verify_records.judged": "benchmark.stages.replay",
    "benchmark.verify_records.rebuilt": "benchmark.stages.replay",
}
"""New module of single names."""

SPELT = {"benchmark.measure.counts": "counts_of"}
"""New names of renamed objects."""


def attribute(module: str, name: str) -> Any:
    """Look up `name` of the 0.1 module `module` in its new place, with a warning that has the line to write.

    Raises:
        AttributeError: if there was no such name, or it was removed.
    """
    homes: tuple[str, ...]
    if f"{module}.{name}" in NAMES:
        homes = (NAMES[f"{module}.{name}"],)
    elif module in MODULES:
        homes = (MODULES[module],)
    else:
        homes = tuple(f"{module}.{part}" for part in NOW_PACKAGES.get(module, ()))
    for home in homes if not name.startswith("__") else ():
        found = importlib.import_module(home)
        now = SPELT.get(f"{module}.{name}", name)
        if hasattr(found, now):
            warnings.warn(
                f"{module}.{name} moved; write `from {home} import {now}` (the old name is removed in version 0.3)",
                FutureWarning,
                stacklevel=3,
            )
            return getattr(found, now)
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


class _Alias(MetaPathFinder, Loader):
    """Importer of old module names, whose attributes are looked up on access."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Spec of the alias of a module that moved."""
        return ModuleSpec(fullname, self) if fullname in MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        """Install the attribute lookup of the alias."""
        old = module.__name__
        module.__getattr__ = lambda name: attribute(old, name)  # type: ignore[method-assign]


def install() -> None:
    """Append the importer of old module names to `sys.meta_path`."""
    if not any(isinstance(finder, _Alias) for finder in sys.meta_path):
        sys.meta_path.append(_Alias())
